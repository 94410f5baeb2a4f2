/* agent.h - the running agent: one process, one data folder, all meters. Internal to agent.c,
 * loop.c, status.c and nilmd.c.
 *
 * Threads: the main thread runs sources, meters, journal, updater, commands and control socket; the
 * publisher (publisher.h) has a thread of its own. They share nothing but the publisher's queues
 * and the database file.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdint.h>

#include "agent/command.h"
#include "agent/config.h"
#include "agent/control.h"
#include "agent/journal.h"
#include "agent/machine.h"
#include "agent/meter.h"
#include "agent/place_live.h"
#include "agent/publisher.h"
#include "agent/record.h"
#include "agent/source.h"
#include "agent/updater.h"
#include "agent/upkeep.h"
#include "agent/wall.h"
#include "agent/wear.h"
#include "storage/store.h"

struct agent_meter {
    const struct config_meter *config;
    struct meter *meter;
    struct place_live *place; /* NULL: no machines to be found */
    struct machine *machine;  /* NULL: no states */
    int64_t machine_at;       /* monotonic: saved again */
    int64_t summary_at;       /* time of its readings: a summary may be due */
    int64_t summary_mono;     /* monotonic: not before, the store refused */
    struct record *record;    /* NULL: none is kept */
    struct source *source;    /* NULL: could not be opened, failure says why */
    char failure[256];
    int ended;
    int more; /* the last batch was full: there may be more without the descriptor saying so */
    int poll_index;                /* into the poll set of this turn, -1: none */
    int64_t last_ms, last_mono_ms; /* last reading: its time, and when it came */
    int sender_time;               /* its readings carry their own time */
    uint64_t bad_input;
};

struct agent_options {
    const char *config_path;
    int exit_when_done;       /* end once all sources ended and the outbox is drained */
    int64_t drain_timeout_ms; /* but wait no longer than this for the draining */
};

struct agent {
    const struct agent_options *options;
    const struct config *config;
    struct config *reloaded; /* read again on SIGHUP: its [broker] counts; NULL: config's */
    int lock_fd, event_fd, signal_fd;
    char database[CONFIG_TEXT + 32];
    struct store *store; /* NULL: damaged, and there was no room for a new one yet */
    int64_t epoch;
    int epoch_due; /* the disk refused the epoch of this start: tried again every second */
    struct journal *journal;
    struct updater *updater, *mains_updater; /* of meters of kind circuit, mains */
    struct publisher *publisher;             /* NULL: no broker configured */
    struct control *control;
    struct command_target commands;
    struct meter_shared *shared; /* by all meters */
    struct agent_meter *meters;
    size_t meter_count;
    struct upkeep upkeep;
    struct wear wear;
    struct wall wall;
    int told_waiting; /* the last status said that the disk refuses */
    int told_failing; /* and how many recordings fail */
    int stop;         /* a signal asked for it, or all is done */
    int status_dirty; /* something that the status tells has changed */
    /* Monotonic ms. done_since 0: sources still run; reopen_at: not before, after a damaged
     * database. */
    int64_t status_at, tick_at, watchdog_at, watchdog_ms, done_since, reopen_at;
    int exit_code;
};

/* Exit codes of every program of the project. */
enum { AGENT_OK = 0, AGENT_USAGE = 1, AGENT_FAILED = 2, AGENT_RETRY = 3, AGENT_TIMED_OUT = 4 };
/* Takes the data folder, opens everything, restores the meters, starts the publisher. Signals must
 * be blocked already; signal_fd receives them. 0, or an exit code after telling why in the log.
 * agent_stop is due in both cases. */
int agent_start(struct agent *a, const struct agent_options *options, const struct config *config,
                int signal_fd);

/* Runs until a signal or, with exit_when_done, until all is done. Returns the exit code. (loop.c)
 */
int agent_run(struct agent *a);

/* The database was found damaged: opens it anew, which sets it aside, while the meters keep what
 * they know and what waits in the journal is kept. 0, or an exit code after telling why. */
int agent_reopen(struct agent *a);

/* Begins the epoch of this start, or notes that it is due. 0, or -errno after telling why. */
int agent_begin_epoch(struct agent *a);

/* Tells "stopped", closes and releases everything. Open runs stay open: the next start goes on with
 * them. */
void agent_stop(struct agent *a);

/* SIGHUP: takes over what can change while running. */
void agent_reload(struct agent *a);

/* The updater whose model meters of a kind use; of both the one that matters, when the gateway has
 * meters of one kind only. */
struct updater *agent_updater(const struct agent *a, int mains);
struct updater *agent_main_updater(const struct agent *a);
/* That whose model is of this family (NULL: the main one); NULL: none. */
struct updater *agent_family_updater(const struct agent *a, const char *family);
int agent_has_both(const struct agent *a); /* kinds of meters */

int64_t agent_monotonic_ms(void);

/* Tells meters and publisher what the clock is worth; about once a second. (clockwork.c) */
void agent_keep_time(struct agent *a);
/* For meter m, whose last reading came with its own time or not. */
void agent_set_meter_clock(struct agent *a, struct agent_meter *m);
/* The wall clock's time of a reading; 0: no clock yet. */
int64_t agent_reading_time(const struct agent *a, const struct agent_meter *m, int64_t t_ms);
/* How good that time is. */
enum event_quality agent_time_quality(const struct agent *a, const struct agent_meter *m);
/* At the start, once the store is open. */
void agent_start_clock(struct agent *a);

#endif
