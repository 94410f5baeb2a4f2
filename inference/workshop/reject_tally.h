/* reject_tally.h - what a threshold does to windows of unknown classes, by class and by device.
 */
#ifndef WORKSHOP_REJECT_TALLY_H
#define WORKSHOP_REJECT_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/dataset.h"

struct reject_tally_class {
    char name[DATASET_LABEL_BYTES];
    uint64_t windows, rejected;
    uint32_t devices; /* whose windows these are */
    double by_device; /* share rejected, each device counting once */
};

/* Zeroed is empty. By name, ascending within one dataset. */
struct reject_tally {
    struct reject_tally_class *classes;
    size_t class_count;
};

/* Adds d->unknown: scores [d->unknown_windows], rejected where below threshold. A class that is there already gets a second entry.
 * 0, -ENOMEM. */
int reject_tally_add(struct reject_tally *t, const struct dataset *d, const float *scores,
                     float threshold);
void reject_tally_free(struct reject_tally *t);

#endif
