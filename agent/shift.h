/* shift.h - shifts by name, times and weekdays, in the gateway's time zone. */
#ifndef AGENT_SHIFT_H
#define AGENT_SHIFT_H

#include <stddef.h>
#include <stdint.h>

#define SHIFT_NAME_BYTES 32
#define SHIFT_MAX 16

struct shift {
    char name[SHIFT_NAME_BYTES];
    int from_min, to_min; /* of the day; to_min <= from_min: over midnight */
    unsigned days;        /* on which it begins: bit 0 is Sunday */
};

/* "HH:MM-HH:MM", then weekdays or nothing (each day): "mon-fri", "sat", "fri-mon", separated by
 * blanks. Times are whole quarters of an hour. The name is the caller's. 0, or -EINVAL with why. */
int shift_parse(const char *text, struct shift *out, char *why, size_t why_size);

/* The first shift that the time is in, and the local date (yyyymmdd) on which it began: its index,
 * or -1. */
int shift_at(const struct shift *shifts, size_t count, int64_t t_ms, int *date);

#endif
