/* mains_rules.h - what is known of appliances beside the network: one small table.
 *
 * Figures are those of the kind of appliance (heaters on 230 V, compressors, tracebase's
 * recordings), with room on both sides; none was fitted to a home. An appliance that is not in the
 * table has the last row.
 */
#ifndef AGENT_MAINS_RULES_H
#define AGENT_MAINS_RULES_H

#include <stdint.h>

#define MAINS_BRIEFS 3 /* kinds of appliances that are found by their pulses */

enum mains_kind {
    MAINS_PULSE = 1, /* one heater or motor, on and off: kettle, microwave oven, iron */
    MAINS_CYCLE,     /* a compressor: weak against what else runs, again and again */
    MAINS_PROGRAM,   /* a sequence of heaters, pumps and motors: washing machine */
    MAINS_PLAIN,     /* switches on and off: lamp */
    MAINS_GENTLE     /* likewise, with a power that wanders: television */
};

struct mains_rule {
    const char *names; /* labels that it is for, each between blanks, letters and digits only */
    enum mains_kind kind;
    float step_min_w, step_max_w; /* of switching on; of a program: of its heater */
    float most_w;                 /* it never takes more */
    float peak_w;                 /* a run that never reached this is none */
    int32_t run_s;                /* shorter runs are none */
    int32_t gap_s;                /* shorter pauses belong to the run */
    int32_t slack_s;              /* how far an edge may be from where the network sees it */
    int32_t lead_s;  /* the run begins at most so long before its first heater; 0: no bound */
    int32_t early_s; /* and so long before the network sees it: valves and a pump come first */
    int32_t rest_s;  /* within so long it rests: what stays meanwhile is another's; 0: it may not */
    float evidence_s; /* results of the network within this time are one observation */
    float change;     /* cost of switching, in natural logarithms of odds */
    float no_edge;    /* more of it where no edge fits */
    int32_t brief;    /* 1: a kettle, 2: a microwave oven, 3: a toaster (mains_pulse.h); 0: none */
    int32_t group;    /* of one group, not 0, only one runs unless both are clear */
};

/* Never NULL. */
const struct mains_rule *mains_rules_find(const char *label);

/* The largest slack_s of all. */
int32_t mains_rules_slack_s(void);

#endif
