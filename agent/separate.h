/* separate.h - the agent's mains pipeline over recorded files: what `nilm-model separate` does. The
 * same code and rules as in the agent, nothing is stored. One thread.
 */
#ifndef AGENT_SEPARATE_H
#define AGENT_SEPARATE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/books.h"
#include "agent/place_house.h"
#include "inference/model.h"

enum separate_format { SEPARATE_JSONL = 0, SEPARATE_CSV = 1 };

struct separate_order {
    const struct model *model; /* INT8, sigmoid */
    const char *const *paths;  /* [path_count]: one recording, in this order */
    int path_count;
    const char *column;                        /* of power, or NULL */
    int64_t max_gap_ms, silence_ms, report_ms; /* as the keys of a meter */
    FILE *events; /* SPEC 4.2 a line, or CSV appliance,start_ms,end_ms,...; NULL: nowhere */
    enum separate_format format;
    FILE *loads;                     /* CSV of what no appliance explains; NULL: nowhere */
    const struct place_house *house; /* what a person has taught; NULL: nothing */
};

struct separate_part {
    char appliance[MODEL_LABEL_BYTES];
    uint64_t runs;
    double energy_wh;
};

struct separate_report {
    uint64_t readings, bad, damaged, samples, inferences, loads;
    int64_t delay_ms;
    double seconds; /* of processor time, in the pipeline alone */
    uint64_t memory_bytes;
    struct books books;
    int part_count;
    struct separate_part parts[BOOKS_PARTS];
};

/* 0, or -errno with the reason. */
int separate_run(const struct separate_order *order, struct separate_report *out, char *why,
                 size_t why_size);

#endif
