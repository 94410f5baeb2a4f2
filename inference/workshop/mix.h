/* mix.h - aggregates mixed from single appliances: any number of labelled windows and days of a
 * mains meter, out of traces that a smart plug saw.
 *
 * Rules say which classes of a folder become outputs and when such a load is on (SPEC 7.26.1):
 * above some watts, pauses up to a gap bridged, runs that are too short or too weak left out. So a
 * washing machine is on through its pauses. Classes without a rule are loads all the same, as
 * unknown ones.
 *
 * A mixed window is a base load with small changes, some loads, and what a meter does to their sum:
 * noise, rounding, a period longer than the grid's, readings that stay away. A load is a trace from
 * some point on, slower or faster (its pauses apart from its runs), its level and the ratio of its
 * levels changed; or one that never was: heaters, motors, programs of random steps.
 *
 * A random number is a function of seed, step and window, so windows do not depend on the number of
 * threads. Read-only once made; thread-safe for drawing.
 */
#ifndef WORKSHOP_MIX_H
#define WORKSHOP_MIX_H

#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/dataset.h"

#define MIX_MAX_RULES 32u /* outputs: a set of them is a word */
#define MIX_MAX_SOURCES 8u
#define MIX_UNKNOWN UINT32_MAX /* the output of a class without a rule */

/* One output. Watts and seconds; level and stretch: what it is varied by in training, 0.3: divided
 * and multiplied by up to 1.3. */
struct mix_rule {
    char name[DATASET_LABEL_BYTES];
    char sources[MIX_MAX_SOURCES][DATASET_LABEL_BYTES]; /* classes of the folder */
    uint32_t source_count;
    float on, gap, run, peak, level, stretch;
};

struct mix_rules {
    uint32_t count;
    struct mix_rule rules[MIX_MAX_RULES];
};

/* Rules from text, one a line or between '|' (as a model's record has them). 0, -EINVAL with line
 * and reason in why. */
int mix_rules_parse(const char *text, struct mix_rules *out, char *why, size_t why_size);

/* A file of rules into text (DATASET_MIX_BYTES), in the record's form: checked, without comments.
 * 0, -EINVAL, -EFBIG or another errno; why names file and line. */
int mix_rules_read(const char *path, char *text, char *why, size_t why_size);

/* Sets on [count] where the rule says that the load is, from its power on a grid. Returns the
 * number of runs. */
uint32_t mix_rules_runs(const struct mix_rule *rule, const float *watts, uint32_t count,
                        uint32_t period_ms, uint8_t *on);

/* --- Mixing --- */

struct mix;

/* raw: traces of all classes on the model's grid, kept by the mix from now on, also on failure.
 * window and lag: of the model. 0, -ENOMEM. */
int mix_create(struct dataset *raw, const struct mix_rules *rules, uint32_t window, uint32_t lag,
               struct mix **out);
void mix_free(struct mix *m);

/* The first output that has no run in the traces, so that it never is on; NULL: all have. */
const char *mix_missing(const struct mix *m);

/* What it was made from. */
const struct dataset *mix_raw(const struct mix *m);

/* Window number `index` of the stream (seed, step): watts [window + 1], the first the predecessor.
 * Returns the outputs that are on at the sample `lag` before the last one, a bit each. */
uint32_t mix_window(const struct mix *m, uint64_t seed, uint64_t step, uint32_t index,
                    float *watts);

/* What a stretch of mixed power is made of. */
struct mix_plan {
    uint32_t loads;   /* appliances with an output, of different outputs */
    uint32_t unknown; /* and without one */
    int base;         /* a base load, noise and the meter's doing */
    int usual;        /* the first output is there as often as in homes */
};

/* A stretch of `count` samples, number `index` of the stream seed: recordings as they are, with
 * pauses between them. watts [count]; on [count]: a bit for each output; parts [outputs][count]:
 * each output's own power, or NULL. */
void mix_stretch(const struct mix *m, const struct mix_plan *plan, uint64_t seed, uint32_t index,
                 uint32_t count, float *watts, uint32_t *on, float *parts);

/* What dataset_load calls where options.mix is set: raw (kept) becomes a dataset of mixed days with
 * windows on them, whose training draws from the mix. 0, -EINVAL (a rule; a training part without a
 * run of an output; why), -ENOMEM. */
int mix_dataset(struct dataset *raw, const struct dataset_options *options, struct dataset **out,
                char *why, size_t why_size);

#endif
