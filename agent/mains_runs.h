/* mains_runs.h - runs of the appliances behind a mains meter, with exact times, power and energy.
 *
 * What was decoded (mains_decode.h) becomes switchings at the edges' times; they are gone through
 * in order of time, cell by cell of the grid, MAINS_SETTLE_MS behind the decisions so that every
 * switching is known before its moment is booked. A run of a pulse or a compressor takes the power
 * of its step; a program takes what is there above the level before it began, without what others
 * take and without steps that it cannot have made. Pauses shorter than the rule's are part of the
 * run. A run is told once it is as long and as strong as its rule demands, with the time at which
 * it began; one that ends before that was none, and its energy is unknown. Memory is constant; the
 * structure holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_MAINS_RUNS_H
#define AGENT_MAINS_RUNS_H

#include <stdint.h>

#include "agent/books.h"
#include "agent/mains_cycle.h"
#include "agent/mains_decode.h"
#include "agent/mains_gentle.h"
#include "agent/mains_pulse.h"

#define MAINS_QUEUE 24
#define MAINS_NO_ROOM (-2) /* one compressor too many: its class is followed like a lamp */

enum mains_phase { MAINS_NONE = 0, MAINS_ON = 1, MAINS_PAUSE = 2 };

struct mains_run {
    int64_t start_ms, off_ms; /* off_ms: since when it pauses */
    int64_t heater_ms;        /* first time at the power of its heater; 0: not yet */
    int64_t told_ms;          /* of the last report; 0: not told */
    double energy_wh;
    double before_wh; /* of it, what was booked before a program heated */
    float level_w, floor_w, foreign_w, step_w, peak_w, last_w, confidence;
    float heat_w, heater_w; /* what a program's heater takes now; took when it was last on */
    float rest_w;           /* least that it took of late, beside its heater; negative: not known */
    int32_t phase;          /* enum mains_phase */
};

struct mains_switch {                    /* a switching that is still to come */
    int64_t t_ms, start_ms;              /* start_ms: it began so much earlier; 0: it did not */
    float level_w, before_w, confidence; /* before_w < 0: not known */
    int8_t class, on, pad[2];
};

/* What the network thought lately of the program that pumps before it heats. */
#define MAINS_LEAD_CELLS 128
#define MAINS_LEAD_MS 64000
struct mains_lead {
    int64_t cell;    /* number of the newest, time / MAINS_LEAD_MS */
    int64_t done_ms; /* end of its last run; 0: none */
    uint8_t p[MAINS_LEAD_CELLS];
};

struct mains_runs {
    int64_t cell_ms; /* up to where everything is booked; 0: nothing yet */
    int32_t queued, pad;
    uint16_t on, live;              /* as decided last; as booked last */
    uint16_t counts[MAINS_CLASSES]; /* frames of the stretch that is on */
    float sums[MAINS_CLASSES];      /* of the probabilities in it */
    float levels[MAINS_CLASSES];    /* step that it began with */
    struct mains_switch queue[MAINS_QUEUE];
    struct mains_run runs[MAINS_CLASSES];
    struct mains_lead lead;
    struct mains_gentle gentle;
    struct books books;
};

/* A stretch that no appliance explains. */
struct mains_load {
    int64_t start_ms, end_ms; /* end_ms 0: not over yet; it comes again when it is */
    float up_w, down_w;       /* both positive */
    float before_w;           /* the sum before it began */
    const char *name;         /* that a person gave to its like; NULL: none */
};

struct mains_tell { /* what comes out; context is passed on */
    void *context;
    /* type: EVENT_ON, EVENT_OFF, EVENT_RUNNING; reason: of off. now_ms: moment that was booked. */
    void (*run)(void *context, int type, int class, const struct mains_run *r, int64_t now_ms,
                const char *reason);
    void (*load)(void *context, const struct mains_load *l);
};

struct mains_world {                       /* what the runs look at */
    const struct mains_rule *const *rules; /* [classes] */
    int classes;
    int64_t period_ms, report_ms; /* report_ms 0: no reports of long runs */
    struct mains_ring *edges;
    const struct mains_decode *decode;
    struct mains_cycle *cycles;
    struct mains_pulses *pulses; /* NULL: nobody looks for them */
    int8_t cycle[MAINS_CLASSES]; /* which of them is the class's; -1: none; MAINS_NO_ROOM */
    const int32_t *early_ms; /* [classes]: so much before it is found a run begins; NULL: nothing */
    uint16_t elsewhere;      /* classes whose runs a person's prototypes find, a bit each */
    uint16_t silent;         /* of these, those that are followed for the books, but not told */
    struct mains_tell tell;
    /* The sum in the cell that begins at t_ms; negative: not known. */
    float (*watts)(void *context, int64_t t_ms);
};

void mains_runs_init(struct mains_runs *r);

/* How far booking stays behind decisions. */
int64_t mains_runs_settle_ms(void);

/* Takes a decision; step_ms: between frames. */
void mains_runs_decide(struct mains_runs *r, const struct mains_world *w,
                       const struct mains_frame *f, int64_t step_ms);

/* Books all cells that end at until_ms or before. */
void mains_runs_book(struct mains_runs *r, const struct mains_world *w, int64_t until_ms);

/* Ends all runs at t_ms, which everything was booked up to ("gap", "stop"). */
void mains_runs_end(struct mains_runs *r, const struct mains_world *w, int64_t t_ms,
                    const char *reason);

/* Whether bytes that were read back can be these: 0 or -EBADMSG. */
int mains_runs_check(const struct mains_runs *r);

#endif
