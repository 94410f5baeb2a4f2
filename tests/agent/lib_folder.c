#include "agent/lib_folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int folder_setup(void **state)
{
    char *path = strdup("/tmp/nilm-test-XXXXXX");
    *state = path;
    return path && mkdtemp(path) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *walk)
{
    (void)st;
    (void)flag;
    (void)walk;
    return remove(path);
}

int folder_teardown(void **state)
{
    const int rc = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

const char *folder_path(void **state, const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

void folder_write(void **state, const char *name, const void *data, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s", folder_path(state, name));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    mkdir(path, 0700);
    *slash = '/';
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        perror(path);
        abort();
    }
}

void folder_text(void **state, const char *name, const char *text)
{
    folder_write(state, name, text, strlen(text));
}
