/* ledger.h - which numbered items of which devices were received: duplicates, and holes that no gap declares.
 *
 * Numbers of a device run on over its epochs (starts) until its database is replaced; then they begin again in a later epoch. So
 * numbers are kept by epoch, and ledger_summary joins epochs whose numbers go on. Received numbers are kept as ranges: memory
 * follows the number of holes and of epochs, both bounded here; what exceeds the bounds is counted as not judged.
 * One thread.
 */
#ifndef AGENT_CTL_LEDGER_H
#define AGENT_CTL_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#define LEDGER_MAX_EPOCHS 4096u /* over all devices */
#define LEDGER_MAX_RANGES 8192u  /* of one epoch */

struct ledger;

struct ledger_sum {
    uint64_t received;   /* different numbers */
    uint64_t duplicates; /* received again */
    uint64_t declared;   /* missing between the first and the last, named by a gap */
    uint64_t missing;    /* missing between the first and the last, named by none */
    uint64_t ignored;    /* beyond the bounds, not judged */
    uint64_t highest;    /* number of the last device's last epochs that count on; 0: none */
    size_t devices;
};

struct ledger *ledger_create(void); /* NULL: out of memory */
void ledger_destroy(struct ledger *l);

/* An item arrived: 1 when it is new, 0 when it was received before, -1 when it is not judged (bounds, memory). */
int ledger_add(struct ledger *l, const char *device, int64_t epoch, uint64_t seq);
/* The same for many numbers, without counting duplicates: 1 or -1. */
int ledger_add_range(struct ledger *l, const char *device, int64_t epoch, uint64_t from, uint64_t to);
/* A gap of that epoch declares count of from..to lost: all of them, or, when count is smaller, so many of those that did not come
 * (SPEC 5.7). */
void ledger_declare(struct ledger *l, const char *device, int64_t epoch, uint64_t from, uint64_t to, uint64_t count);

/* hole (may be NULL) is called for each range of numbers that is missing and not declared. */
void ledger_summary(struct ledger *l, struct ledger_sum *out,
                    void (*hole)(void *context, const char *device, uint64_t from, uint64_t to), void *context);

#endif
