/* place.h - learning the place: loads that nobody has a name for yet, told apart by what their runs
 * look like, and named by a person once.
 *
 * A run is a point: power, duration, shape, steps, in logarithms. Points that lie close are the
 * same load (leader clustering, J. A. Hartigan, Clustering Algorithms, 1975, ch. 3): each cluster
 * keeps robust running centres and spreads, so memory is constant; two that grow together become
 * one. Clusters with a name are prototypes: a run that is close to one gets its name, whatever the
 * network said, and a correction of a single run makes a prototype of its own. The structure holds
 * no pointers and may be kept as bytes. One thread.
 */
#ifndef AGENT_PLACE_H
#define AGENT_PLACE_H

#include <stddef.h>
#include <stdint.h>

#define PLACE_LOADS 32      /* of a meter, at most */
#define PLACE_NAME_BYTES 64 /* with the NUL */
#define PLACE_SIZES 5       /* what makes a point */
#define PLACE_RECURS 3      /* runs from which a load is worth a name */

/* One finished run, as far as it is known: 0 where it is not. */
struct place_run {
    int64_t start_ms;
    double duration_s, energy_wh; /* duration above 0 */
    double peak_w, up_w, down_w;  /* the first and the last step, both positive */
};

/* A run as a point. Finite. */
struct place_point {
    float x[PLACE_SIZES];
    uint8_t known; /* bit i: x[i] is known */
    uint8_t hour;  /* of the local day when it began */
    uint8_t pad[2];
};

struct place_load {
    uint32_t number; /* of unknown-N; never used twice on a meter; 0: this one is free */
    uint32_t runs;
    char name[PLACE_NAME_BYTES]; /* given by a person; "": none */
    int64_t first_ms, last_ms;   /* start of the first and the last run */
    float centre[PLACE_SIZES], spread[PLACE_SIZES];
    uint32_t seen[PLACE_SIZES]; /* runs of which this size was known */
    uint16_t hours[24];         /* runs by hour of their start, halved when one is full */
    double energy_wh;           /* of all runs */
};

struct place {
    uint32_t next; /* number of the next new load */
    uint32_t pad;
    struct place_load loads[PLACE_LOADS];
};

void place_init(struct place *p);
/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int place_check(const struct place *p);

/* 0, or -EINVAL: nothing that can be compared. */
int place_point(const struct place_run *run, struct place_point *out);

/* The load that the point belongs to: the nearest within reach; named: only those with a name, and
 * within the smaller reach of a prototype. NULL: none. *distance in spreads (may be NULL). */
struct place_load *place_find(struct place *p, const struct place_point *point, int named,
                              float *distance);

/* Takes a run in: into the load that it belongs to, or as a new one. When there is no room the load
 * without a name that was seen least, and longest ago, goes. *merged: number of a load that became
 * part of the returned one; 0: none. */
struct place_load *place_add(struct place *p, const struct place_point *point,
                             const struct place_run *run, uint32_t *merged);

/* A person says that the run is `name` and not what it was taken for (from; NULL: nothing that is
 * kept). The prototype that then stands for it is returned; NULL: there is no room. */
struct place_load *place_correct(struct place *p, const struct place_point *point,
                                 const struct place_run *run, struct place_load *from,
                                 const char *name);

struct place_load *place_number(struct place *p, uint32_t number); /* NULL: none */

/* What it is called: its name, or unknown-N once it recurs, or "unknown". */
void place_label(const struct place_load *l, char out[PLACE_NAME_BYTES]);

/* "unknown-17" -> 17; 0: no such label. */
uint32_t place_parse(const char *label);

/* What is typical of a load, for people: watts, seconds, and the hours of the day in which half of
 * its runs begin (from to, local time; the shortest such stretch). */
struct place_typical {
    double power_w, duration_s, energy_wh;
    int from_hour, to_hour;
};
void place_typical(const struct place_load *l, struct place_typical *out);

#endif
