/* dataset_files.c - see dataset_files.h. */
#include "inference/workshop/dataset_files.h"

#include "inference/trace.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_CLASSES = 256, MAX_FILES = 1000000 };

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* alphasort would follow the locale */
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int is_csv(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 4 && entry->d_name[0] != '.' && strcasecmp(entry->d_name + n - 4, ".csv") == 0;
}

static void free_entries(struct dirent **entries, int count)
{
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
}

static char *join(const char *a, const char *b)
{
    size_t n = strlen(a) + strlen(b) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s", a, b);
    return path;
}

static int is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}

/* A plug's id is six hexadecimal digits at the end of the device's name; one plug occurs under
 * several patterns. */
static int is_plug(const char *device)
{
    size_t n = strlen(device);
    if (n < 6 || (n > 6 && device[n - 7] != '_'))
        return 0;
    for (size_t i = n - 6; i < n; i++) {
        if (!is_hex(device[i]))
            return 0;
    }
    return 1;
}

static void name_file(struct dataset_file *file, const char *name)
{
    struct trace_name parsed;
    if (trace_parse_name(name, &parsed) == 0) {
        snprintf(file->device, sizeof file->device, "%s", parsed.device);
        file->date = parsed.year * 10000 + parsed.month * 100 + parsed.day;
    } else {
        snprintf(file->device, sizeof file->device, "%.*s", (int)strlen(name) - 4, name);
        file->date = 0;
    }
    int plug = is_plug(file->device);
    const char *key = plug ? file->device + strlen(file->device) - 6 : file->device;
    snprintf(file->key, sizeof file->key, "%s", key);
    for (char *p = file->key; plug && *p; p++)
        *p = *p >= 'a' && *p <= 'f' ? (char)(*p - 'a' + 'A') : *p;
}

/* Adds a file when it is a regular one (a pipe would block the loader). */
static int add_file(struct dataset_folder *f, size_t *room, const char *folder, const char *name)
{
    struct stat status;
    char *path = join(folder, name);
    if (path == NULL)
        return -ENOMEM;
    if (stat(path, &status) < 0 || !S_ISREG(status.st_mode)) {
        free(path);
        return 0;
    }
    if (f->count == *room) {
        size_t more = *room ? 2 * *room : 1024;
        struct dataset_file *files = realloc(f->files, more * sizeof *files);
        if (files == NULL) {
            free(path);
            return -ENOMEM;
        }
        f->files = files;
        *room = more;
    }
    struct dataset_file *file = &f->files[f->count++];
    *file = (struct dataset_file){.path = path, .label = f->class_count};
    name_file(file, name);
    return f->count > MAX_FILES ? -E2BIG : 0;
}

/* Adds the class `name` when its folder has a trace. What is no folder is passed over. */
static int add_class(struct dataset_folder *f, size_t *room, const char *root, const char *name,
                     char *why, size_t why_size)
{
    struct dirent **entries = NULL;
    size_t before = f->count;
    int rc = -ENOMEM, n = 0;
    char *folder = join(root, name);
    if (folder == NULL)
        goto done;
    n = scandir(folder, &entries, is_csv, by_name);
    rc = n >= 0 || errno == ENOTDIR ? 0 : -errno;
    if (rc < 0)
        snprintf(why, why_size, "%s: %s", folder, strerror(-rc));
    if (n <= 0)
        goto done;
    if (strlen(name) >= DATASET_LABEL_BYTES || f->class_count == MAX_CLASSES) {
        rc = f->class_count == MAX_CLASSES ? -E2BIG : -EBADMSG;
        snprintf(why, why_size, "%s: at most %d classes with names of at most %d bytes", folder,
                 MAX_CLASSES, DATASET_LABEL_BYTES - 1);
        goto done;
    }
    for (int i = 0; i < n && rc == 0; i++)
        rc = add_file(f, room, folder, entries[i]->d_name);
    if (rc == -E2BIG)
        snprintf(why, why_size, "%s: more than %d traces", root, MAX_FILES);
    if (f->count > before)
        memcpy(f->labels[f->class_count++], name, strlen(name) + 1); /* length checked above */
done:
    free_entries(entries, n);
    free(folder);
    return rc;
}

static int by_plug_and_date(const void *a, const void *b)
{
    const struct dataset_file *x = *(struct dataset_file *const *)a;
    const struct dataset_file *y = *(struct dataset_file *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->date > y->date) - (x->date < y->date);
}

/* tracebase files ten days of one monitor under Monitor-CRT and again under Monitor-TFT. Which is
 * right is not known: used for training they contradict each other, and on two sides of a split
 * they leak. Only names that carry a plug's id are judged: "house1_2020.01.01.csv" in two classes
 * may well be two channels of one logger. */
static int mark_ambiguous(struct dataset_folder *f)
{
    struct dataset_file **order = malloc((f->count + 1) * sizeof *order);
    if (order == NULL)
        return -ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < f->count; i++) {
        if (f->files[i].date && is_plug(f->files[i].device))
            order[n++] = &f->files[i];
    }
    qsort(order, n, sizeof *order, by_plug_and_date);
    for (size_t i = 0, end; i < n; i = end) {
        int several = 0;
        for (end = i + 1; end < n && by_plug_and_date(&order[i], &order[end]) == 0; end++)
            several |= order[end]->label != order[i]->label;
        for (size_t k = i; k < end; k++)
            order[k]->ambiguous = several;
    }
    free(order);
    return 0;
}

int dataset_files_scan(const char *dir, struct dataset_folder *out, char *why, size_t why_size)
{
    struct dirent **entries = NULL;
    struct stat status;
    size_t room = 0;
    int rc = -ENOMEM, n = 0;
    memset(out, 0, sizeof *out);
    char *root = join(dir, "complete");
    out->labels = calloc(MAX_CLASSES, sizeof *out->labels);
    if (root == NULL || out->labels == NULL)
        goto done;
    if (stat(root, &status) < 0 || !S_ISDIR(status.st_mode))
        root[strlen(dir)] = '\0';
    n = scandir(root, &entries, is_visible, by_name);
    if (n < 0) {
        rc = -errno;
        snprintf(why, why_size, "%s: %s", root, strerror(-rc));
        goto done;
    }
    rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = add_class(out, &room, root, entries[i]->d_name, why, why_size);
    if (rc == 0 && out->count == 0) {
        rc = -EBADMSG;
        snprintf(why, why_size, "%s: no trace there, expected CLASS/DEVICE_YYYY.MM.DD.csv", root);
    }
    if (rc == 0)
        rc = mark_ambiguous(out);
done:
    if (rc == -ENOMEM)
        snprintf(why, why_size, "%s: out of memory", dir);
    if (rc < 0)
        dataset_files_free(out);
    free_entries(entries, n);
    free(root);
    return rc;
}

void dataset_files_free(struct dataset_folder *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->files[i].path);
    free(f->files);
    free(f->labels);
    memset(f, 0, sizeof *f);
}
