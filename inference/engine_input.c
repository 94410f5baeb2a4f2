/* engine_input.c - see engine_input.h. */
#include "inference/engine_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inference/model_format.h" /* bytes of a packed level are in little-endian order */

#define MAX_STEP 1024u /* of 11 halvings: 2047 thresholds and more than all channels have */
_Static_assert(MODEL_MAX_CHANNELS *MODEL_LEVELS < 2 * MAX_STEP, "a cell may hold all thresholds");
_Static_assert(MODEL_MAX_CHANNELS <= sizeof(uint64_t), "one byte a channel");

/* x <= y exactly when the integers are; no NaN. */
static int32_t order_of(float x)
{
    int32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits < 0 ? INT32_MIN - bits : bits;
}

/* Where the merge stands: thresholds passed so far, per channel. */
struct merge {
    const struct model *model;
    int difference; /* which channels take part */
    uint32_t passed[MODEL_MAX_CHANNELS];
};

static int takes_part(const struct merge *g, uint32_t channel)
{
    return (g->model->channels[channel].feature == MODEL_LOG_DIFF) == g->difference;
}

static uint64_t pack_levels(const struct merge *g)
{
    uint64_t packed = 0;

    for (uint32_t c = 0; c < g->model->channel_count; c++)
        if (takes_part(g, c))
            packed |= (uint64_t)(uint8_t)(g->passed[c] - 128) << 8 * c;
    return packed;
}

/* Passes the least threshold that is left and all that are equal to it. 0: none is left. */
static int pass_next(struct merge *g, int32_t *bound)
{
    int found = 0;

    for (uint32_t c = 0; c < g->model->channel_count; c++) {
        if (!takes_part(g, c) || g->passed[c] == MODEL_LEVELS)
            continue;
        int32_t order = order_of(g->model->channels[c].thresholds[g->passed[c]]);
        *bound = found && *bound <= order ? *bound : order;
        found = 1;
    }
    for (uint32_t c = 0; found && c < g->model->channel_count; c++)
        while (takes_part(g, c) && g->passed[c] < MODEL_LEVELS &&
               order_of(g->model->channels[c].thresholds[g->passed[c]]) == *bound)
            g->passed[c]++;
    return found;
}

/* The index, and the halvings that its fullest cell needs. */
static void make_cells(struct engine_input_table *t)
{
    uint32_t last = t->bounds[t->count - 1], fullest = 0, at = 0;

    while (last >> t->shift >= ENGINE_INPUT_CELLS)
        t->shift++;
    for (uint32_t cell = 0; cell <= last >> t->shift; cell++) {
        uint32_t begin = at;

        t->cells[cell] = (uint16_t)begin;
        while (at < t->count && t->bounds[at] >> t->shift == cell)
            at++;
        fullest = at - begin > fullest ? at - begin : fullest;
    }
    for (t->step = 1; 2 * t->step <= fullest;)
        t->step *= 2;
    for (uint32_t i = 0; i < t->step; i++)
        t->bounds[t->count + i] = UINT32_MAX;
}

static void make_table(const struct model *m, int difference, struct engine_input_table *t)
{
    struct merge g = {.model = m, .difference = difference};
    int32_t bound;

    t->levels[0] = pack_levels(&g);
    while (pass_next(&g, &bound)) {
        if (t->count == 0)
            t->least = bound - 1;
        t->most = bound;
        t->bounds[t->count++] = (uint32_t)bound - (uint32_t)t->least;
        t->levels[t->count] = pack_levels(&g);
    }
    if (t->count > 0)
        make_cells(t);
}

int engine_input_create(const struct model *m, struct engine_input *out)
{
    size_t most = (size_t)m->channel_count * MODEL_LEVELS;
    uint64_t *levels;
    uint32_t *bounds;

    memset(out, 0, sizeof(*out));
    out->channels = m->channel_count;
    /* as if no two were equal, for either table: what is not written stays untouched memory */
    levels = out->memory =
        malloc(2 * ((most + 1) * sizeof(*levels) + (most + MAX_STEP) * sizeof(*bounds)));
    if (!levels)
        return -ENOMEM;
    bounds = (uint32_t *)(levels + 2 * (most + 1));
    out->watts.levels = levels;
    out->watts.bounds = bounds;
    make_table(m, 0, &out->watts);
    out->differences.levels = levels + out->watts.count + 1;
    out->differences.bounds = bounds + out->watts.count + out->watts.step;
    make_table(m, 1, &out->differences);
    return 0;
}

void engine_input_free(struct engine_input *input)
{
    free(input->memory);
}

/* Adds the levels of the interval that each place is in. With the first step a constant the
 * halvings are straight code; nothing branches on a sample, and searches overlap. */
static inline __attribute__((always_inline)) void search_from(const struct engine_input_table *t,
                                                              uint32_t first, const uint32_t *place,
                                                              size_t n, uint64_t *packed)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t *at = t->bounds + t->cells[place[i] >> t->shift];

        for (uint32_t step = first; step > 0; step /= 2)
            at += at[step - 1] <= place[i] ? step : 0;
        packed[i] |= t->levels[at - t->bounds];
    }
}

/* Adds a table's levels to packed [n]. */
static void add_levels(const struct engine_input_table *t, const float *watts, int difference,
                       size_t n, uint64_t *packed)
{
    uint32_t place[ENGINE_INPUT_BLOCK];

    for (size_t i = 0; i < n; i++) {
        int32_t order = order_of(difference ? watts[i] - (watts - 1)[i] : watts[i]);

        order = order < t->least ? t->least : order;
        order = order > t->most ? t->most : order;
        place[i] = (uint32_t)order - (uint32_t)t->least;
    }
    if (t->step == 1)
        search_from(t, 1, place, n, packed);
    else if (t->step == 2)
        search_from(t, 2, place, n, packed);
    else if (t->step == 4)
        search_from(t, 4, place, n, packed);
    else
        search_from(t, t->step, place, n, packed);
}

void engine_input_columns(const struct engine_input *input, const float *watts, size_t n,
                          int8_t *columns)
{
    uint64_t packed[ENGINE_INPUT_BLOCK];
    size_t channels = input->channels, i = 0;

    memset(packed, 0, n * sizeof(packed[0]));
    if (input->watts.count)
        add_levels(&input->watts, watts, 0, n, packed);
    if (input->differences.count)
        add_levels(&input->differences, watts, 1, n, packed);
    /* eight bytes at a time where the columns behind have room for what is too much */
    for (; (n - i) * channels >= sizeof(packed[i]); i++, columns += channels)
        memcpy(columns, &packed[i], sizeof(packed[i]));
    for (; i < n; i++, columns += channels)
        memcpy(columns, &packed[i], channels);
}
