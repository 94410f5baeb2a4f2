/* lib_temp.c - see lib_temp.h. */
#include "storage/lib_temp.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int temp_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char *folder = malloc(4096);

    snprintf(folder, 4096, "%s/nilm-storage-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(folder) == NULL)
        return -1;
    *state = folder;
    return 0;
}

void temp_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)type, (void)where;
    return remove(path);
}

int temp_teardown(void **state)
{
    int rc = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);

    free(*state);
    return rc;
}

const char *temp_path(void **state, const char *name)
{
    static char paths[8][4200];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

int temp_count(void **state, const char *part)
{
    DIR *folder = opendir(*state);
    int count = 0;

    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strstr(entry->d_name, part) != NULL;
    closedir(folder);
    return count;
}

struct store *temp_open(void **state, struct store_report *report)
{
    struct store *s = NULL;
    char why[256] = "";
    int rc = store_open(temp_path(state, "nilmd.db"), &s, report, why, sizeof why);

    if (rc != 0)
        fail_msg("store_open: %d %s", rc, why);
    return s;
}

uint64_t temp_append(struct store *s, enum outbox_kind kind, int64_t number)
{
    struct outbox_item item = {
        .kind = kind, .created_ms = 1700000000000 + number, .channel = "meter"};
    char body[64];
    uint64_t seq = 0;

    item.body_bytes = (size_t)snprintf(body, sizeof body, "{\"n\":%lld}", (long long)number);
    item.body = body;
    int rc = outbox_append(s, &item, &seq);
    if (rc != 0)
        fail_msg("outbox_append: %d %s", rc, store_error(s));
    return seq;
}

char *temp_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, f), *size);
    data[*size] = '\0';
    fclose(f);
    return data;
}

void temp_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_true(size == 0 || fwrite(data, 1, size, f) == size);
    assert_int_equal(fclose(f), 0);
}

uint64_t temp_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Dull;
}
