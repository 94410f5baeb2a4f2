/* net_random.h - the workshop's random numbers: SplitMix64 (Steele, Lea, Flood 2014). Seeded
 * streams that are the same on every machine; a stream per purpose (shard, window, layer) is made
 * with net_random_stream, so no draw depends on which thread came first. */
#ifndef WORKSHOP_NET_RANDOM_H
#define WORKSHOP_NET_RANDOM_H

#include <math.h>
#include <stdint.h>

struct net_random {
    uint64_t state;
};

static inline uint64_t net_random_next(struct net_random *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A stream for (seed, a, b). */
static inline struct net_random net_random_stream(uint64_t seed, uint64_t a, uint64_t b)
{
    struct net_random r = {seed ^ 0x5851f42d4c957f2du};
    r.state = net_random_next(&r) ^ a;
    r.state = net_random_next(&r) ^ b;
    (void)net_random_next(&r);
    return r;
}

/* [0, 1) */
static inline double net_random_unit(struct net_random *r)
{
    return (double)(net_random_next(r) >> 11) * 0x1p-53;
}

/* 0 .. n-1, n > 0 */
static inline uint32_t net_random_below(struct net_random *r, uint32_t n)
{
    return (uint32_t)(((net_random_next(r) >> 32) * n) >> 32);
}

/* Normal, mean 0, deviation 1 (Box and Muller 1958). */
static inline double net_random_normal(struct net_random *r)
{
    double u = 1.0 - net_random_unit(r), v = net_random_unit(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
