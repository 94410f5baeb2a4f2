/* dataset_split.c - which part a file belongs to (dataset_files.h). By names alone, class by class:
 *
 * A unit is what is never divided: the files of one device and day. A file whose name has no date
 * is a unit.
 *
 * SPLIT_DAY     The units of a class are put in order by device, then by a hash of (seed, class,
 * device, day). Every fifth or so, evenly spread over that order, is test (a fifth of them,
 * rounded; at least one from three units on), then likewise a tenth of all from the rest is valid
 * (at least one from five units on). So every device with several days is on both sides, and so is
 * every class with three. SPLIT_DEVICE  A class with one device is for training only. Else devices
 * are taken in the order of a hash of (seed, class, device) and held out for test until a third of
 * them is (rounded down, at least one); a device is passed over where the held-out units would
 * become more than half of the class. The smallest device never is too large, so there is always
 * one. Of the rest a tenth of the units is valid, as above.
 *
 * SPLIT_DEVICE_ONE  The same with exactly one device held out: of those that are not passed over,
 * in the order of a hash of (class, device), number (seed - 1) modulo their count. So seeds 1, 2,
 * ... hold out one after the other.
 *
 * SPLIT_DEVICE_DAY  A class with one device as under SPLIT_DAY, any other as under SPLIT_DEVICE.
 *
 * SPLIT_RANDOM  Windows are drawn, not files: a hash of (seed, class, file name, number of the
 * window) gives seven tenths to training, one to validation, two to test.
 *
 * The hash does not depend on other files, so a folder that grows keeps most of its assignment.
 */
#include "inference/workshop/dataset_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *key;
    int date;
    uint64_t hash;
    size_t first, device; /* first: its first file in `order`; device: index */
    enum dataset_part part;
};

struct device {
    const char *key;
    uint64_t hash;
    size_t units;
    int held_out;
};

struct class_work {
    struct dataset_file **files; /* of the class, by key and date */
    size_t file_count;
    struct unit *units;
    size_t unit_count;
    struct device *devices;
    size_t device_count;
};

/* FNV-1a over the text and its end, then the finalizer of splitmix64 to spread it. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    do {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    } while (*text++);
    return hash;
}

static uint64_t hash_name(uint64_t seed, const char *label, const char *key, int date)
{
    uint64_t h = hash_text(UINT64_C(0xcbf29ce484222325) ^ seed, label);
    h = hash_text(h, key) ^ (uint64_t)(uint32_t)date;
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

static int by_key_and_date(const void *a, const void *b)
{
    const struct dataset_file *x = *(struct dataset_file *const *)a;
    const struct dataset_file *y = *(struct dataset_file *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->date > y->date) - (x->date < y->date);
}

static int by_device_and_hash(const void *a, const void *b)
{
    const struct unit *x = a, *y = b;
    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->date > y->date) - (x->date < y->date);
}

static int by_hash(const void *a, const void *b)
{
    const struct device *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return strcmp(x->key, y->key);
}

/* Groups the files of the class into units and devices; files are sorted by key and date. */
static void group(struct class_work *w, const char *label, uint64_t seed, uint64_t device_seed)
{
    w->unit_count = w->device_count = 0;
    for (size_t i = 0; i < w->file_count; i++) {
        const struct dataset_file *file = w->files[i];
        int new_device = i == 0 || strcmp(file->key, w->files[i - 1]->key) != 0;
        if (new_device) {
            w->devices[w->device_count++] = (struct device){
                .key = file->key, .hash = hash_name(device_seed, label, file->key, 0)};
        }
        if (new_device || file->date != w->files[i - 1]->date) {
            w->units[w->unit_count++] =
                (struct unit){.key = file->key,
                              .date = file->date,
                              .hash = hash_name(seed, label, file->key, file->date),
                              .first = i,
                              .device = w->device_count - 1,
                              .part = PART_TRAIN};
            w->devices[w->device_count - 1].units++;
        }
    }
}

/* Gives `count` of the units that are still for training to part, evenly spread in their order. */
static void spread(struct class_work *w, size_t count, enum dataset_part part)
{
    size_t candidates = 0, seen = 0, given = 0;
    for (size_t i = 0; i < w->unit_count; i++)
        candidates += w->units[i].part == PART_TRAIN;
    for (size_t i = 0; i < w->unit_count && given < count; i++) {
        if (w->units[i].part != PART_TRAIN)
            continue;
        if (seen++ == (2 * given + 1) * candidates / (2 * count)) {
            w->units[i].part = part;
            given++;
        }
    }
}

/* A share of n in tenths, rounded, at least one from `least` on. */
static size_t share(size_t n, size_t tenths, size_t least)
{
    size_t count = (n * tenths + 5) / 10;
    return n < least ? 0 : count > 0 ? count : 1;
}

static void hold_out_device(struct class_work *w, struct device *device)
{
    device->held_out = 1;
    for (size_t k = 0; k < w->unit_count; k++) {
        if (strcmp(w->units[k].key, device->key) == 0)
            w->units[k].part = PART_TEST;
    }
}

static void hold_out_devices(struct class_work *w)
{
    size_t wanted = w->device_count / 3 > 0 ? w->device_count / 3 : 1, units = 0;
    if (w->device_count < 2)
        return;
    struct device *order = w->devices;
    /* units refer to devices by key from here on, since the order changes */
    qsort(order, w->device_count, sizeof *order, by_hash);
    for (size_t i = 0; i < w->device_count && wanted > 0; i++) {
        if (2 * (units + order[i].units) > w->unit_count)
            continue;
        hold_out_device(w, &order[i]);
        units += order[i].units;
        wanted--;
    }
}

/* devices carry hashes without the seed here: it chooses the place in their order */
static void hold_out_one(struct class_work *w, uint64_t seed)
{
    size_t eligible = 0;
    if (w->device_count < 2)
        return;
    qsort(w->devices, w->device_count, sizeof *w->devices, by_hash);
    for (size_t i = 0; i < w->device_count; i++)
        eligible += 2 * w->devices[i].units <= w->unit_count;
    size_t place = (size_t)((seed + eligible - 1) % eligible); /* the smallest is always eligible */
    for (size_t i = 0; i < w->device_count; i++) {
        if (2 * w->devices[i].units <= w->unit_count && place-- == 0) {
            hold_out_device(w, &w->devices[i]);
            return;
        }
    }
}

static void split_class(struct class_work *w, const char *label, enum dataset_split split,
                        uint64_t seed)
{
    qsort(w->files, w->file_count, sizeof *w->files, by_key_and_date);
    group(w, label, seed, split == SPLIT_DEVICE_ONE ? 0 : seed);
    qsort(w->units, w->unit_count, sizeof *w->units, by_device_and_hash);
    if (split == SPLIT_DAY || (split == SPLIT_DEVICE_DAY && w->device_count < 2)) {
        spread(w, share(w->unit_count, 2, 3), PART_TEST);
        spread(w, share(w->unit_count, 1, 5), PART_VALID);
    } else {
        if (split == SPLIT_DEVICE_ONE)
            hold_out_one(w, seed);
        else
            hold_out_devices(w);
        size_t left = 0;
        for (size_t i = 0; i < w->unit_count; i++)
            left += w->units[i].part == PART_TRAIN;
        spread(w, share(left, 1, 5), PART_VALID);
    }
    for (size_t i = 0; i < w->unit_count; i++) {
        const struct unit *u = &w->units[i];
        for (size_t k = u->first; k < w->file_count && w->files[k]->date == u->date &&
                                  strcmp(w->files[k]->key, u->key) == 0;
             k++)
            w->files[k]->part = u->part;
    }
}

int dataset_files_split(struct dataset_folder *f, enum dataset_split split, uint64_t seed)
{
    struct class_work w = {.files = malloc((f->count + 1) * sizeof *w.files),
                           .units = malloc((f->count + 1) * sizeof *w.units),
                           .devices = malloc((f->count + 1) * sizeof *w.devices)};
    int rc = w.files && w.units && w.devices ? 0 : -ENOMEM;
    int by_file = split != SPLIT_NONE && split != SPLIT_RANDOM;
    for (size_t i = 0; i < f->count; i++)
        f->files[i].part = PART_TRAIN;
    for (size_t i = 0, end; rc == 0 && by_file && i < f->count; i = end) {
        w.file_count = 0;
        for (end = i; end < f->count && f->files[end].label == f->files[i].label; end++) {
            if (!f->files[end].ambiguous)
                w.files[w.file_count++] = &f->files[end];
        }
        split_class(&w, f->labels[f->files[i].label], split, seed);
    }
    free(w.files);
    free(w.units);
    free(w.devices);
    return rc;
}

enum dataset_part dataset_files_window_part(const char *path, uint32_t number, uint64_t seed)
{
    const char *tail = path + strlen(path);
    for (int slashes = 0; tail > path;
         tail--) { /* CLASS/NAME: where the folder lies is no matter */
        slashes += tail[-1] == '/';
        if (slashes == 2)
            break;
    }
    uint64_t place = hash_name(seed, tail, "", (int)number) % 10;
    return place < 7 ? PART_TRAIN : place < 8 ? PART_VALID : PART_TEST;
}
