/* books.h - where the energy of a mains meter went.
 *
 * For each moment the appliances say what they think they take; nobody gets more than is there, so
 * the parts never exceed the sum. What is left is base load, as far as the lowest power of the last
 * day or so reaches, and unknown. Energies are in watt-hours. Memory is constant; the structure
 * holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_BOOKS_H
#define AGENT_BOOKS_H

#include <stdint.h>

#define BOOKS_PARTS 16

struct books {
    double total_wh, base_wh, unknown_wh;
    double open_wh;              /* given to runs that are not settled yet */
    double part_wh[BOOKS_PARTS]; /* of settled runs */
    float base_w;                /* negative: not known yet */
    int32_t pad;
};

void books_init(struct books *b);

/* A moment of dt_ms at watts (below 0 counts as 0). watts_of [n]: what each part would take, in the
 * order of precedence; afterwards what it got. Returns what is left above the base load. */
float books_moment(struct books *b, int64_t dt_ms, float watts, float *watts_of, int n);

/* The energy of a run that was given by books_moment becomes the part's, or (part < 0: it was no
 * run) unknown. */
void books_settle(struct books *b, int part, double energy_wh);

/* Energy that was unknown belongs to a run after all, not settled yet: how much of it there was. */
double books_claim(struct books *b, double energy_wh);

/* Whether bytes that were read back can be these: 0 or -EBADMSG. */
int books_check(const struct books *b);

#endif
