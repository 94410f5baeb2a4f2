/* anomaly_rules.h - how a meter's alerts are set: in words (sensitivity), or in numbers. */
#ifndef AGENT_ANOMALY_RULES_H
#define AGENT_ANOMALY_RULES_H

#include <stdint.h>

enum anomaly_sensitivity { /* of what is learned; what has a number of its own is always judged */
                           ANOMALY_OFF = 1,
                           ANOMALY_LOW,
                           ANOMALY_NORMAL,
                           ANOMALY_HIGH
};

struct anomaly_rules {
    int sensitivity;     /* enum anomaly_sensitivity; 0: normal */
    int64_t learning_ms; /* nothing learned is judged before */
    /* Numbers instead of what follows from sensitivity; 0: not given. */
    double power_percent;    /* how far a run's power may be from the usual one */
    double duration_percent; /* the same of its length and of the time between two runs */
    /* Bounds that need no learning; 0: none. */
    double limit_w; /* total, for limit_for_ms */
    int64_t limit_for_ms;
    double limit_day_wh; /* of a day, local time */
    double possible_w;   /* readings beyond are damaged; 0: found out by comparing */
    int64_t frozen_ms;   /* the same reading for so long, at least; 0: not judged */
    double on_w;         /* power from which a load is on */
    int negative;        /* power below zero is normal (a feed with generation) */
};

#endif
