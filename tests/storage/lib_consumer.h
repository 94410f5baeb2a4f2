/* lib_consumer.h - a subscriber that keeps account of every number: received, declared lost, or
 * missing. */
#ifndef TESTS_STORAGE_LIB_CONSUMER_H
#define TESTS_STORAGE_LIB_CONSUMER_H

#include "storage/lib_temp.h"

#define CONSUMER_NUMBERS 20000

struct consumer {
    unsigned char received[CONSUMER_NUMBERS]; /* times, by sequence number */
    unsigned char declared[CONSUMER_NUMBERS]; /* gaps whose range holds it */
    uint64_t lost;                            /* sum of the counts of all gaps */
    uint64_t gaps;
    uint64_t exact; /* gaps whose count is their range */
};

/* Takes everything that waits, priority 3 first, and acknowledges it. Returns the number of items.
 */
int consumer_drain(struct consumer *c, struct store *s);

/* Fails the test unless every number in [1, next_seq) was received or declared, exactly once where
 * once is non-zero. */
void consumer_check(const struct consumer *c, uint64_t next_seq, int once);

#endif
