/* record.h - keeps the readings of a meter as day files, for training on one's own machines.
 *
 * FOLDER/METER_YYYY.MM.DD.csv, lines as tracebase's (inference/trace.h): "dd/mm/yyyy
 * HH:MM:SS;watts;watts", UTC, the mean of each second. The raw power stays on the gateway. A
 * convenience that must not harm the agent: what cannot be written is counted and dropped, the disk
 * is never filled up, and nothing here ends or delays a meter. Main thread.
 */
#ifndef AGENT_RECORD_H
#define AGENT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define RECORD_RESERVE (64ull << 20) /* bytes that stay free on the file system */

struct record_config {
    const char *folder, *meter; /* kept: must outlive the recording */
    int64_t days;               /* day files kept; older ones are removed */
    uint64_t reserve_bytes;     /* of free space: below it nothing is written */
    int live;                   /* times are a clock's, which may be set back */
};

struct record_stats {
    uint64_t lines, dropped; /* seconds written, seconds lost */
    int failing;             /* the last attempt to write failed */
};

struct record;

/* Opens no file yet, so a disk that comes later is no fault. 0 or -ENOMEM. */
int record_create(const struct record_config *config, struct record **out);
/* Writes what waits. */
void record_destroy(struct record *r);

/* A reading by the wall clock. What is not later than the last second written, also in an earlier
 * life, is left out, unless a live meter's time jumps back by more than an hour (a clock that was
 * wrong). */
void record_reading(struct record *r, int64_t t_ms, double watts);
/* About once a second: what is older than some seconds is written. mono_ms: monotonic. */
void record_tick(struct record *r, int64_t mono_ms);

void record_get_stats(const struct record *r, struct record_stats *out);

/* Takes the name of a day file apart: 0 and *date = yyyymmdd when it is one of this meter, else
 * -EBADMSG. */
int record_parse_name(const char *file, const char *meter, int *date);

#endif
