/* baseline.h - two classic ways to separate mains, to compare with: Hart's edge matching and
 * combinatorial optimisation, both as plain as their papers.
 *
 * Both know an appliance by the powers at which it runs: from labelled recordings of the place, or
 * from single appliances elsewhere. One thread.
 */
#ifndef WORKSHOP_BASELINE_H
#define WORKSHOP_BASELINE_H

#include <stddef.h>

#include "inference/workshop/truth.h"

#define BASELINE_APPLIANCES_MAX 8u
#define BASELINE_LEVELS_MAX 3u

struct baseline_appliance {
    char name[TRUTH_NAME_BYTES];
    struct truth_rule rule;
    size_t level_count;
    double watts[BASELINE_LEVELS_MAX]; /* ascending */
};

struct baseline_levels {
    size_t count;
    struct baseline_appliance appliances[BASELINE_APPLIANCES_MAX];
};

/* Learns the powers. path: a recording with columns ("FILE[,FILE]"), or a folder of single
 * appliances (tracebase: complete/CLASS/ or CLASS/, files of days). names: "Refrigerator=fridge,.."
 * says which columns or classes are wanted and what to call them; NULL: all columns by their own
 * name; a folder needs it. Powers are the centres of at most three clusters (k-means on the
 * logarithm, weighted by energy) of what is above the rule's threshold within runs; closer ones
 * than 30 % are one. -EINVAL: names, too many; or an error of the files. */
int baseline_learn(const char *path, const char *names, const struct truth_rules *rules,
                   struct baseline_levels *out, char *why, size_t why_size);

/* Hart, Nonintrusive Appliance Load Monitoring, Proc. IEEE 80 (1992): steady states of the mains,
 * the steps between them, a step up paired with the next step down of its size, and the pair given
 * to the appliance whose power is nearest. */
int baseline_hart(const struct truth_series *mains, const struct baseline_levels *levels,
                  struct truth *out);

/* The same paper, section on total load; as NILMTK (Batra et al. 2014) has it: for each reading the
 * set of powers, one or none of each appliance, whose sum comes nearest to the mains less their
 * base load (lowest hundredth). */
int baseline_combinatorial(const struct truth_series *mains, const struct baseline_levels *levels,
                           struct truth *out);

/* Both: out (truth_init) gets the runs, by the appliances' own rules, sorted. 0, -ENOMEM, -EINVAL
 * (more than 65536 sets). */

#endif
