/* kernels.c - the list of kernel sets and the choice among them. */
#include "inference/kernels.h"

#include <errno.h>
#include <string.h>

/* Slowest first; sets that the processor lacks are to be left out by the loop below. */
static const struct kernels *const sets[] = {&kernels_scalar};

int kernels_select(const char *name, const struct kernels **out)
{
    const struct kernels *chosen = NULL;

    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if (!name || !*name || strcmp(name, sets[i]->name) == 0)
            chosen = sets[i];
    *out = chosen;
    return chosen ? 0 : -ENOTSUP;
}
