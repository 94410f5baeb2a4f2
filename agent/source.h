/* source.h - where the readings of a meter come from: replay (files), stdin, sim. One source, one
 * owner thread. Readings carry their own time (Unix ms): the trace's, the simulated one, or that of
 * arrival.
 */
#ifndef AGENT_SOURCE_H
#define AGENT_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/trace.h"

enum source_type { SOURCE_REPLAY = 1, SOURCE_STDIN = 2, SOURCE_SIM = 3 };

struct source_config {
    enum source_type type;
    /* replay: paths, folders (their *.csv) or globs, blank-separated; read in the order of the
     * dates in their names (tracebase) when all have one, else in name order */
    const char *files;
    const char *column; /* replay of plain CSV, or three, separated by line ends; NULL: default */
    const char *appliance; /* sim: which appliance this meter's circuit carries; several, separated
                            * by blanks: their sum and a base load */
    /* sim: CSV file for the ground truth (appliance,start_ms,end_ms,energy_wh), NULL: none */
    const char *truth;
    double speed;     /* replay, sim: 1 = real time, N = N times, 0 = as fast as it goes */
    int loop;         /* replay: begin again at the end, times going on */
    int rebase;       /* replay, sim: shift times so that the first reading is now */
    uint64_t seed;    /* sim */
    int64_t start_ms; /* sim: time of the first reading; 0: now */
    int64_t days;     /* sim: 0 = endless */
    int phases;       /* three phases: of stdin and sim; of replay see column */
};

struct source;

/* 0, or -errno with the reason (file, line, key) in why. */
int source_create(const struct source_config *config, struct source **out, char *why,
                  size_t why_size);
void source_destroy(struct source *s);

/* A descriptor to poll for input, or -1. */
int source_fd(const struct source *s);

/* When to call source_next again, in monotonic ms (0: at once; INT64_MAX: when the descriptor is
 * readable, or never). */
int64_t source_due(const struct source *s);

/* Takes the next reading that is due at monotonic time mono_ms (now_ms: Unix time for readings
 * without one). 1: *out; 0: none due; -ENODATA: ended; -EBADMSG: unusable input, source_error says
 * what and where, call again. */
int source_next(struct source *s, int64_t mono_ms, int64_t now_ms, struct trace_reading *out);
/* The phases of the reading that source_next handed out last: 1, or 0 when it has none. */
int source_phases(const struct source *s, float out[3]);
const char *source_error(const struct source *s);

/* Readings with times up to t_ms were consumed in an earlier life: they still come out (the
 * pipeline primes itself with them) but as fast as they can be read, without pacing. */
void source_resume(struct source *s, int64_t t_ms);

/* Names of the appliances that sim knows, NULL-terminated. */
const char *const *source_appliances(void);

#endif
