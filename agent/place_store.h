/* place_store.h - what place.h learns, kept in the store: names for runs as they end, a person's
 * names and corrections, also backwards in the history.
 *
 * All state is in the database, so what the agent and nilmctl do to it at the same time is one
 * sequence of transactions. Any thread with a store handle of its own.
 */
#ifndef AGENT_PLACE_STORE_H
#define AGENT_PLACE_STORE_H

#include <stddef.h>

#include "agent/event.h"
#include "agent/place.h"
#include "storage/store.h"

#define PLACE_STORE_RUNS 20000 /* runs whose load is remembered, of all meters */
#define PLACE_STORE_HOURS 360  /* of cells to learn habits from */

/* A run ended (EVENT_OFF): inside the caller's transaction. A run without a name, or one that is
 * close to what a person has named, may get another name: e->appliance and confidence. When a load
 * recurs for the first time, its earlier runs in the history are called unknown-N, too. 0 or
 * -errno; what cannot be learned from is left alone. */
int place_store_take(struct store *s, const char *meter, struct event *e);

/* A person names a load: label is unknown-N or a name that it has. meter NULL: the one meter that
 * has such a load (-ENOTUNIQ: several). Its runs in the history are renamed: *runs. Its own
 * transaction. -ENOENT: no such load. why gets the reason. */
int place_store_name(struct store *s, const char *meter, const char *label, const char *name,
                     int *runs, char *why, size_t why_size);

/* A person corrects one run of the history: it is renamed, and once it is finished its like will
 * be. Several that were named so are a lesson, as place_store_name is: *runs of the history have
 * the name now, this one among them. 0; -ENOENT: no such run; -ENOSPC: all loads of the meter have
 * names. */
int place_store_correct(struct store *s, int64_t run, const char *name, int *runs, char *why,
                        size_t why_size);

/* Loads of a meter; those that are not named and do not recur are empty. -ENOENT: none. */
int place_store_read(struct store *s, const char *meter, struct place *out);

#endif
