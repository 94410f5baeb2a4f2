/* anomaly_change.h - whether a figure of a load's last runs (power, length, period) is other than
 * what was learned (anomaly_routine.h). Rules: anomaly.h. No state; any thread. */
#ifndef AGENT_ANOMALY_CHANGE_H
#define AGENT_ANOMALY_CHANGE_H

#include <stdint.h>

#include "agent/anomaly_routine.h"

struct anomaly_basis { /* what is judged by */
    const struct anomaly_routine *routine;
    const struct anomaly_usual *usual;
    double f; /* scales all margins: sensitivity */
    uint64_t runs;
    int separated; /* runs are taken out of a sum */
};

/* A figure of the last runs and between which bounds it usually is. */
struct anomaly_change {
    double value, low, high;
    char of[40]; /* what the value is */
    int is_so;
};

/* How much wider margins are because few runs are known: 1 to 11. */
double anomaly_change_few(uint64_t runs);

/* The power of the i-th last run is far from all others: 1 above, -1 below, 0 not. */
int anomaly_change_far(const struct anomaly_basis *b, uint32_t i);
/* That of two of the last three is, on one side, or two of the last five are stronger than any that
 * was learned; 0 also where blocks tell it. */
int anomaly_change_far_off(const struct anomaly_basis *b);

/* What is odd about a figure. share: the tolerance that is configured, of the usual value; 0: none.
 * stays: scales the margins, less than 1 while an alert is open. */
void anomaly_change_look(const struct anomaly_basis *b, enum anomaly_figure f, double share,
                         double stays, struct anomaly_change *c);

/* Between which bounds a block of five (of eight periods) is usual: low and high of c. Returns 0
 * when blocks of this figure say nothing. */
int anomaly_change_bounds(const struct anomaly_usual *u, enum anomaly_figure f, double share,
                          double factor, struct anomaly_change *c);

#endif
