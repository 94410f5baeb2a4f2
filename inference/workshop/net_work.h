/* net_work.h - private to net_*.c: the buffers of one shard. */
#ifndef WORKSHOP_NET_WORK_H
#define WORKSHOP_NET_WORK_H

#include "inference/workshop/net.h"

/* The loops over channels are compiled for wider registers too, and the processor chooses at start.
 * They are elementwise and contraction is off, so the bits are the same. (Sanitizers do not get
 * along with functions that are chosen before they run.) */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NET_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define NET_WIDE
#endif

/* Buffers of one layer, for `windows` windows. */
struct net_buffers {
    float *raw;      /* CONV1D: before normalization and ReLU; DENSE: the input after dropout */
    float *out;      /* [windows * out_pitch][out_channels] */
    float *d_base;   /* gradient of out, with (taps - 1) zero columns before it (CONV1D) */
    float *d;        /* d_base + that margin */
    uint8_t *choice; /* MAXPOOL1D: which of the pool's columns was largest */
    float *mask;     /* DENSE: dropout factors of the input */
    float *sums;     /* DENSE with levels: before ReLU and levels */
    float *flipped;  /* CONV1D: weights as the backward product wants them */
    float *scale, *offset, *inverse; /* CONV1D with norm: see net_forward.c */
};

struct net_work {
    uint32_t windows; /* capacity */
    uint32_t n;       /* of the last forward */
    struct net_mode mode;
    uint32_t layer_count;
    float *input;
    float *stats;
    struct net_buffers layers[MODEL_MAX_LAYERS];
};

#endif
