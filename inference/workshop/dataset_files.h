/* dataset_files.h - the files of a dataset and which part each belongs to; private to dataset.c and its tests.
 *
 * Nothing here reads a trace: names alone decide, so a part can be loaded without the others.
 */
#ifndef WORKSHOP_DATASET_FILES_H
#define WORKSHOP_DATASET_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/dataset.h"

struct dataset_file {
    char *path;
    char device[64]; /* as trace_parse_name has it; a file without a date: its name without ".csv" */
    char key[64];    /* the device whatever the pattern of the name: "D3423B" for "dev_D3423B", "device_D3423B", "_D3423B" */
    int date;        /* yyyymmdd, 0 when the name has none */
    uint32_t label;  /* class, index in labels */
    int ambiguous;   /* see dataset.h */
    enum dataset_part part; /* TRAIN, VALID or TEST */
};

/* All files of a dataset, whatever their part. */
struct dataset_folder {
    struct dataset_file *files; /* by class name, then file name, in byte order */
    size_t count;
    char (*labels)[DATASET_LABEL_BYTES]; /* ascending; classes without any file are not among them */
    uint32_t class_count;
};

/* Lists DIR: its class folders and the regular files NAME.csv in them; all else is passed over. Errors as dataset_load;
 * on failure *out is empty. Release with dataset_files_free. */
int dataset_files_scan(const char *dir, struct dataset_folder *out, char *why, size_t why_size);
void dataset_files_free(struct dataset_folder *f);

/* Sets part of every file: a pure function of split, seed, and the names of the class's files (rule in dataset_split.c).
 * 0 or -ENOMEM. */
int dataset_files_split(struct dataset_folder *f, enum dataset_split split, uint64_t seed);

/* Decides which of the folder's classes are d's (labels), and gives traces and windows, which have the folder's class
 * numbers, those of d. Windows of other classes are dropped or set apart (d->unknown), and counted when d->options asks for
 * one or the other. 0, -EINVAL (options.without; why), -ENOMEM. */
int dataset_classes_map(struct dataset *d, const struct dataset_folder *f, char *why, size_t why_size);

/* SPLIT_RANDOM: the part of window `number` of the file, counted over all of its places, active or not. */
enum dataset_part dataset_files_window_part(const char *path, uint32_t number, uint64_t seed);

#endif
