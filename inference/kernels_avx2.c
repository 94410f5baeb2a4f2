/* kernels_avx2.c - the kernel set for processors with AVX2 (kernels_x86.h).
 *
 * Convolutions are at the end. For all else, vpmaddubsw multiplies unsigned by signed bytes and
 * saturates sums of two products to 16 bits. With |x| <= 128 as the unsigned factor and the weight,
 * in [-127, 127], with the sign of x as the other one, two products sum up to 32512 at most: never
 * saturated. */
#if !defined(__AVX2__)
#error "compile this file with -mavx2"
#endif
#include "inference/kernels_x86.h"

#define X_OFFSET 0u
#define MAX_NW 2
#define COLS_1 6
#define COLS_2 4 /* 8 sums, 2 weights, x, |x| and temporaries in 16 registers */

struct tile {
    _Alignas(32) uint8_t x[TILE + TILE_PAD];
    _Alignas(32) uint8_t magnitude[TILE + TILE_PAD]; /* |x|, 0 to 128 */
};

struct spread {
    __m256i x, magnitude;
};

NOINLINE void tile_fill(struct tile *t, const int8_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        t->x[i] = (uint8_t)x[i];
        t->magnitude[i] = (uint8_t)(x[i] < 0 ? -x[i] : x[i]);
    }
    memset(t->x + n, 0, TILE_PAD);
    memset(t->magnitude + n, 0, TILE_PAD);
}

INLINE struct spread spread(const struct tile *t, size_t at)
{
    int32_t x, magnitude;

    memcpy(&x, t->x + at, sizeof(x));
    memcpy(&magnitude, t->magnitude + at, sizeof(magnitude));
    return (struct spread){_mm256_set1_epi32(x), _mm256_set1_epi32(magnitude)};
}

INLINE reg dot(reg acc, struct spread x, reg w)
{
    __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.x));

    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Without the signs. */
#define PEAK_DOT(acc, x, w)                                                                        \
    _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)))

#include "inference/kernels_x86.inc"

/* Convolutions, two columns at a time with fewer products (Winograd, Arithmetic complexity of
 * computations, 1980). For inputs d0 to d3 and three taps g0, g1, g2 four products instead of six:
 *
 *   p = (d1 + d2)(g0 + g1 + g2)    first column  = (p + q) / 2 + (d0 - d2) g0
 *   q = (d2 - d1)(g0 - g1 + g2)    second column = (p - q) / 2 - (d1 - d3) g2
 *
 * and for two taps three instead of four, with d1 (g0 + g1) in both columns, (d0 - d1) g0 in the
 * first and (d2 - d1) g1 in the second. Longer ones are sums of these. Factors need 10 bits (at
 * most 256 and 508), and vpmaddwd adds the products of two channels in 32 bits: exact, whatever the
 * weights are. p and q are summed over channels and taps and halved once: p + q and p - q are twice
 * a part of the column's sum, so even and, with the rows that fit here, far below 2^31. */
#define PLANE 4096u      /* numbers in a plane: times x channels; a row is shorter */
#define LEAST_CHANNELS 8 /* below, the transformation costs more than it saves */
#define MOST_TAPS 16
#define LEAST_COLUMNS 8 /* that must fit into the planes */
#define PAIRS 6         /* 12 sums, weights and temporaries in 16 registers */

enum plane { PLAIN, NEXT_SUM, NEXT_DIFFERENCE, SECOND_DIFFERENCE, PLANES };

/* What a plane is multiplied with: the sum of k x tap. */
struct term {
    int8_t k[3];
};

/* In the order in which they are added. */
static const struct term p_term = {{1, 1, 1}}, q_term = {{1, -1, 1}}, p_two_term = {{2, 2, 0}},
                         first_term = {{1, 0, 0}}, second_term = {{0, 0, -1}},
                         first_two_term = {{-1, 0, 0}}, second_two_term = {{0, 1, 0}};

/* A layer as threes and then twos of taps. Channels are padded to two. */
struct split {
    size_t threes, twos, channels, most; /* most: columns at once, a multiple of 4 */
};

struct planes {
    _Alignas(32) int16_t x[PLANES][PLANE];
};

/* Whether the layer is computed this way, and how. */
static int split_layer(const struct kernels_layer *l, struct split *s)
{
    size_t taps = l->row / l->stride, times;

    if (l->row % l->stride || l->stride < LEAST_CHANNELS || taps < 2 || taps > MOST_TAPS)
        return 0;
    s->twos = taps % 3 ? 3 - taps % 3 : 0;
    s->threes = (taps - 2 * s->twos) / 3;
    s->channels = ((size_t)l->stride + 1) / 2 * 2;
    times = (PLANE - 16) / s->channels;
    if (times < LEAST_COLUMNS + taps + 1)
        return 0;
    s->most = (times - taps - 1) / 4 * 4;
    s->most = s->most < CHUNK ? s->most : CHUNK;
    return 1;
}

/* Products a column pair, in vectors. */
static size_t split_products(const struct split *s)
{
    return (4 * s->threes + 3 * s->twos) * (s->channels / 2);
}

static size_t packed_bytes_avx2(const struct kernels_layer *l)
{
    struct split s;

    if (!split_layer(l, &s))
        return packed_bytes(l);
    return vectors_of(l) * (sizeof(struct lanes) + split_products(&s) * sizeof(reg));
}

/* One term of the taps from `tap` on, for a vector of outputs: [channel / 2][of `every`][lane][2].
 */
static void pack_term(const struct kernels_layer *l, const struct split *s, size_t vector,
                      size_t tap, const struct term *t, size_t every, int16_t *to)
{
    for (size_t n = 0; n < s->channels * LANES; n++) {
        size_t o = vector * LANES + n / 2 % LANES, c = n / (2 * LANES) * 2 + n % 2;
        int sum = 0;

        for (size_t k = 0; k < 3; k++)
            if (t->k[k] && o < l->outputs && c < l->stride)
                sum += t->k[k] * l->weights[o * l->row + (tap + k) * l->stride + c];
        to[n / (2 * LANES) * every * 2 * LANES + n % (2 * LANES)] = (int16_t)sum;
    }
}

/* Two terms that are added in turns. Returns what follows. */
static int16_t *pack_both(const struct kernels_layer *l, const struct split *s, size_t vector,
                          size_t tap, const struct term *a, const struct term *b, int16_t *to)
{
    pack_term(l, s, vector, tap, a, 2, to);
    pack_term(l, s, vector, tap, b, 2, to + 2 * LANES);
    return to + 2 * s->channels * LANES;
}

static int16_t *pack_vector(const struct kernels_layer *l, const struct split *s, size_t v,
                            int16_t *to)
{
    size_t twos_at = 3 * s->threes;

    for (size_t i = 0; i < s->threes; i++)
        to = pack_both(l, s, v, 3 * i, &p_term, &q_term, to);
    for (size_t i = 0; i < s->twos; i++, to += s->channels * LANES)
        pack_term(l, s, v, twos_at + 2 * i, &p_two_term, 1, to);
    for (size_t i = 0; i < s->threes; i++)
        to = pack_both(l, s, v, 3 * i, &first_term, &second_term, to);
    for (size_t i = 0; i < s->twos; i++)
        to = pack_both(l, s, v, twos_at + 2 * i, &first_two_term, &second_two_term, to);
    return to;
}

/* Weights are [vector][term or two][channel / 2][of two][lane][2]. */
static void pack_avx2(const struct kernels_layer *l, void *memory)
{
    struct lanes *lanes = memory;
    int16_t *to = (int16_t *)(lanes + vectors_of(l));
    struct split s;

    if (!split_layer(l, &s)) {
        pack(l, memory);
        return;
    }
    memset(lanes, 0, vectors_of(l) * sizeof(*lanes));
    for (uint32_t o = 0; o < l->outputs; o++)
        pack_lane(l, o, &lanes[o / LANES], o % LANES);
    for (size_t v = 0; v < vectors_of(l); v++)
        to = pack_vector(l, &s, v, to);
}

/* times x stride numbers of x. Two more times are zero, for sums that nobody wants. */
NOINLINE void planes_fill(struct planes *p, const struct split *s, const int8_t *x, size_t stride,
                          size_t times)
{
    size_t c = s->channels, n = times * c;
    int16_t *plain = p->x[PLAIN];

    if (c == stride) {
        for (size_t i = 0; i < n; i++)
            plain[i] = x[i];
    } else {
        for (size_t t = 0; t < times; t++, x += stride) {
            for (size_t i = 0; i < stride; i++)
                plain[t * c + i] = x[i];
            plain[t * c + stride] = 0;
        }
    }
    memset(plain + n, 0, 2 * c * sizeof(*plain));
    for (size_t i = 0; i < n; i += 16) { /* up to 15 numbers behind them, within the plane */
        reg a = load(plain + i), b = load(plain + i + c), d = load(plain + i + 2 * c);

        save(&p->x[NEXT_SUM][i], _mm256_add_epi16(a, b));
        save(&p->x[NEXT_DIFFERENCE][i], _mm256_sub_epi16(b, a));
        save(&p->x[SECOND_DIFFERENCE][i], _mm256_sub_epi16(a, d));
    }
}

INLINE reg madd_two(reg acc, const int16_t *x, reg w)
{
    int32_t two;

    memcpy(&two, x, sizeof(two));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_set1_epi32(two), w));
    OPAQUE(acc); /* or gcc takes all products first and spills the sums */
    return acc;
}

/* Adds a term of n pairs of columns, all channels. Returns the weights behind it. */
INLINE const int16_t *add_term(unsigned n, size_t channels, const int16_t *w, const int16_t *x,
                               reg *acc)
{
    for (const int16_t *end = x + channels; x < end; x += 2, w += 2 * LANES) {
        reg v = load(w);
        UNROLL
        for (unsigned k = 0; k < n; k++)
            acc[k] = madd_two(acc[k], x + k * 2 * channels, v);
    }
    return w;
}

/* Two terms, one from x and one from y, in turns. */
INLINE const int16_t *add_both(unsigned n, size_t channels, const int16_t *w, const int16_t *x,
                               const int16_t *y, reg *first, reg *second)
{
    for (const int16_t *end = x + channels; x < end; x += 2, y += 2, w += 4 * LANES) {
        reg v = load(w), u = load(w + 2 * LANES);
        UNROLL
        for (unsigned k = 0; k < n; k++) {
            first[k] = madd_two(first[k], x + k * 2 * channels, v);
            second[k] = madd_two(second[k], y + k * 2 * channels, u);
        }
    }
    return w;
}

/* The sums of a vector of outputs for n pairs of columns, n constant; pooled: the larger of each
 * pair. */
INLINE void pair_sums(unsigned n, const struct split *s, const struct lanes *lanes,
                      const int16_t *w, const struct planes *p, size_t at, int pooled,
                      int32_t (*sums)[LANES])
{
    size_t c = s->channels, threes = at + 3 * s->threes * c, end = threes + 2 * s->twos * c;
    reg first[PAIRS], second[PAIRS], bias = load(lanes->bias);

    UNROLL
    for (unsigned k = 0; k < n; k++)
        first[k] = second[k] = _mm256_setzero_si256();
    for (size_t i = at; i < threes; i += 3 * c)
        w = add_both(n, c, w, &p->x[NEXT_SUM][i + c], &p->x[NEXT_DIFFERENCE][i + c], first, second);
    for (size_t i = threes; i < end; i += 2 * c)
        w = add_term(n, c, w, &p->x[PLAIN][i + c], first);
    UNROLL
    for (unsigned k = 0; k < n; k++) {
        reg sum = _mm256_add_epi32(first[k], second[k]);
        reg difference = _mm256_sub_epi32(first[k], second[k]);

        first[k] = _mm256_add_epi32(_mm256_srai_epi32(sum, 1), bias);
        second[k] = _mm256_add_epi32(_mm256_srai_epi32(difference, 1), bias);
    }
    for (size_t i = at; i < threes; i += 3 * c)
        w = add_both(n, c, w, &p->x[SECOND_DIFFERENCE][i], &p->x[SECOND_DIFFERENCE][i + c], first,
                     second);
    for (size_t i = threes; i < end; i += 2 * c)
        w = add_both(n, c, w, &p->x[NEXT_DIFFERENCE][i], &p->x[NEXT_DIFFERENCE][i + c], first,
                     second);
    UNROLL
    for (unsigned k = 0; k < n; k++) {
        if (pooled) {
            save(sums[k], _mm256_max_epi32(first[k], second[k]));
        } else {
            save(sums[2 * k], first[k]);
            save(sums[2 * k + 1], second[k]);
        }
    }
}

/* The same for any number of pairs. */
NOINLINE void chunk_sums(const struct split *s, const struct lanes *lanes, const int16_t *w,
                         const struct planes *p, size_t pairs, int pooled, int32_t (*sums)[LANES])
{
    size_t at = 0, step = 2 * s->channels, now;

    for (; pairs > 0; pairs -= now, at += now * step, sums += pooled ? now : 2 * now) {
        now = pairs >= PAIRS ? PAIRS : pairs == 5 ? 4 : pairs;
        switch (now) {
        case 6:
            pair_sums(6, s, lanes, w, p, at, pooled, sums);
            break;
        case 4:
            pair_sums(4, s, lanes, w, p, at, pooled, sums);
            break;
        case 3:
            pair_sums(3, s, lanes, w, p, at, pooled, sums);
            break;
        case 2:
            pair_sums(2, s, lanes, w, p, at, pooled, sums);
            break;
        default:
            pair_sums(1, s, lanes, w, p, at, pooled, sums);
        }
    }
}

/* n columns of the layer, pooled by `pool` (1, 2 or 4), which divides n. */
NOINLINE void split_rows(const struct kernels_layer *l, const struct split *s, const int8_t *x,
                         size_t n, size_t pool, int8_t *y)
{
    const struct lanes *lanes = l->packed;
    const int16_t *weights = (const int16_t *)(lanes + vectors_of(l));
    size_t taps = l->row / l->stride, vectors = vectors_of(l), now;
    struct planes planes;
    _Alignas(32) int32_t sums[2][CHUNK][LANES];

    for (; n > 0; n -= now, x += now * l->stride, y += now / pool * l->outputs) {
        now = n < s->most ? n : s->most;
        planes_fill(&planes, s, x, l->stride, now + taps - 1);
        for (size_t v = 0; v < vectors; v += 2) {
            unsigned nw = v + 1 < vectors ? 2 : 1;

            for (unsigned j = 0; j < nw; j++)
                chunk_sums(s, lanes + v + j, weights + (v + j) * split_products(s) * 2 * LANES,
                           &planes, (now + 1) / 2, pool > 1, sums[j]);
            requantize(l, nw, v, now / pool, pool == 4 ? 2 : 1, (const int32_t(*)[LANES])sums, y);
        }
    }
}

static void rows_pooled_avx2(const struct kernels_layer *l, const int8_t *x, size_t columns,
                             size_t pool, int8_t *y)
{
    struct split s;

    if (split_layer(l, &s))
        split_rows(l, &s, x, columns * pool, pool, y);
    else
        rows_pooled(l, x, columns, pool, y);
}

static void rows_avx2(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y)
{
    struct split s;

    if (split_layer(l, &s))
        split_rows(l, &s, x, columns, 1, y);
    else
        rows(l, x, columns, y);
}

static void sums_avx2(const struct kernels_layer *l, const int8_t *x, int32_t *out)
{
    const struct lanes *lanes = l->packed;
    const int16_t *weights = (const int16_t *)(lanes + vectors_of(l));
    struct planes planes;
    _Alignas(32) int32_t both[2][LANES];
    struct split s;

    if (!split_layer(l, &s)) {
        sums(l, x, out);
        return;
    }
    planes_fill(&planes, &s, x, l->stride, l->row / l->stride);
    for (size_t v = 0; v < vectors_of(l); v++) {
        chunk_sums(&s, lanes + v, weights + v * split_products(&s) * 2 * LANES, &planes, 1, 0,
                   both);
        memcpy(out + v * LANES, both[0], outputs_from(l, v, 1) * sizeof(int32_t));
    }
}

const struct kernels kernels_avx2 = {.name = "avx2",
                                     .packed_bytes = packed_bytes_avx2,
                                     .pack = pack_avx2,
                                     .rows = rows_avx2,
                                     .rows_pooled = rows_pooled_avx2,
                                     .sums = sums_avx2,
                                     .maxpool = maxpool,
                                     .peak = peak};
