/* score.h - judges events against the truth (truth.h): starts, stops, energy, state by minute,
 * delay.
 *
 * An event is one run of an appliance as somebody recognised it. A start counts as right when it
 * lies within 30 s or a tenth of the true run, whichever is longer, of a true start of the same
 * appliance; each counts once, and as many as possible are paired. Stops likewise. What begins
 * outside the recording or in a stretch of it that cannot be judged is left out on both sides, and
 * so is what was said of a true run that begins there.
 * Events of appliances that the truth does not know, and of unknown loads, are neither right nor
 * wrong: they are counted as not judged. One thread.
 */
#ifndef WORKSHOP_SCORE_H
#define WORKSHOP_SCORE_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/truth.h"

#define SCORE_NAMES_MAX 512u
#define SCORE_EVENTS_MAX 10000000u
#define SCORE_NEAR_MS 30000
#define SCORE_NEAR_SHARE 0.1

struct score_event {
    uint32_t name;            /* index of a name: the last one that was given to the run */
    int64_t start_ms, end_ms; /* end 0: not seen */
    int64_t named_ms;         /* when the run got its name; 0: not said */
    double energy_wh;         /* NAN: not said */
};

struct score_events {
    size_t name_count, count, room;
    char (*names)[TRUTH_NAME_BYTES]; /* [SCORE_NAMES_MAX] */
    struct score_event *events;
    uint64_t ignored; /* lines and objects that are no events: alerts, gaps, other meters */
};

/* Reads a file of events: JSON lines of SPEC.md 4.2, what `nilmctl events --json` or `nilmctl watch
 * --json` printed, or CSV as truth_read_rows reads it. meter: only this one's (NULL: all; CSV has
 * none). A run that is told twice counts once. -EBADMSG names file and line. score_events_free in
 * any case. */
int score_events_read(const char *path, const char *meter, struct score_events *out, char *why,
                      size_t why_size);
void score_events_free(struct score_events *e);

/* Index of the name, added when it is new. 0, -ENOMEM or -EINVAL. */
int score_events_name(struct score_events *e, const char *name, uint32_t *index);
int score_events_add(struct score_events *e, const struct score_event *event); /* 0 or -ENOMEM */

/* precision, recall, f1: NAN where nothing was there to find or to be found. */
struct score_counts {
    uint64_t truth, predicted, matched;
    double precision, recall, f1;
};

struct score_appliance {
    char name[TRUTH_NAME_BYTES];
    struct score_counts starts, stops; /* stops: of runs whose end was seen */
    struct score_counts minutes;       /* of which it ran in any part */
    double energy_true_wh, energy_wh;  /* in the time that may be judged */
    double energy_error;               /* (energy - true) / true; NAN without */
    double start_error_s;              /* median distance of paired starts; NAN without */
    double delay_s;                    /* median from the true start to the name; NAN without */
    uint64_t open;                     /* predicted runs whose end was not seen */
};

struct score_other {
    char name[TRUTH_NAME_BYTES];
    uint64_t events;
    double energy_wh;
};

struct score {
    size_t appliance_count, other_count;
    struct score_appliance *appliances;              /* of the truth, in its order */
    struct score_other *others;                      /* names that the truth does not have */
    struct score_counts starts, stops;               /* over all appliances */
    double f1_macro, stops_f1_macro, state_f1_macro; /* over appliances with true runs */
    double energy_error_macro;                       /* of its magnitude, likewise */
    int64_t span_ms, scored_ms;
    uint64_t not_judged; /* events with other names */
    uint64_t outside;    /* events and true runs that begin where nothing is judged */
    uint64_t outside_truth;
};

/* Which event name is which appliance: "Refrigerator=fridge,Oven=cooker", or NULL. Names that agree
 * in letters and digits, whatever their case, are the same without being told; so are
 * refrigerator = fridge and microwave oven = microwave. submeters: "FILE[,FILE]" with a column for
 * each appliance, whose whole energy then counts instead of the true runs' (NULL: none). 0 and *out
 * (score_free), -EINVAL (map), -ENOMEM, or an error of the files. */
int score_run(const struct truth *truth, const struct score_events *events, const char *map,
              const char *submeters, struct score *out, char *why, size_t why_size);
void score_free(struct score *s);

/* The keys of SPEC.md 7.23; NULL: out of memory. */
cJSON *score_json(const struct score *s);

#endif
