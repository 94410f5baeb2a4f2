/* periods.h - prices by time of day and week.
 *
 * Text: entries separated by commas, `[DAYS] HH:MM-HH:MM PRICE`; DAYS is one of mon tue wed thu fri
 * sat sun, or a range of them (mon-fri); without it every day. An end before the start is on the
 * next day, whose price is that of the first. The first entry that fits a time is taken. Local
 * time.
 */
#ifndef AGENT_PERIODS_H
#define AGENT_PERIODS_H

#include <stddef.h>
#include <stdint.h>

#define PERIODS_MAX 16

struct period {
    double price; /* of a kWh */
    int from_min, to_min;
    unsigned days; /* bit 0: Sunday */
};

struct periods {
    struct period list[PERIODS_MAX];
    size_t count;
};

/* prices: every word must be a number. "" gives none. 0, or -EINVAL with what was expected in why.
 */
int periods_parse(const char *text, struct periods *out, char *why, size_t why_size);

/* The entry that holds at a time, -1: none. */
int periods_at(const struct periods *p, int64_t t_ms);

/* Price of a kWh at a time: of the entry, or else. */
double periods_price(const struct periods *p, double otherwise, int64_t t_ms);

/* Cost of energy taken evenly from start to end, in quarters of an hour. */
double periods_cost(const struct periods *p, double otherwise, int64_t start_ms, int64_t end_ms,
                    double wh);

#endif
