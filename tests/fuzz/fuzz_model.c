/* fuzz_model.c - the model file's reader and the engine behind it. An input is 64 bytes that choose
 * hop and watts (any bits: NaN and infinities, too), then a model file. What is accepted must be
 * written again with the same bytes, and run: every kernel set of this machine gives the bits of
 * the plain reference, streamed and whole.
 *
 * The mutator changes one section at a time and puts sizes, table and check sum right, so that most
 * inputs get past them; now and then it begins anew with a random model of another shape. */
#include <math.h>

#include "fuzz/fuzz.h"
#include "inference/engine.h"
#include "inference/lib_model_file.h"
#include "inference/lib_random_model.h"
#include "inference/lib_reference.h"

#define CONTROL 64u
#define HEADER 32u
#define SECTIONS 7u
#define FIRST_SECTION (HEADER + 16u * SECTIONS)
#define MOST_MACS 60000u  /* of one window of a model that is run */
#define MOST_WORK 300000u /* multiplications of a stream, or of all meters of a batch */
#define MOST_TURNS 24u
#define MOST_METERS (ENGINE_BATCH + 2u)

/* Names for NILM_CPU, ready for putenv. Those that this machine lacks are passed over. */
static char sets[][24] = {"NILM_CPU=scalar",     "NILM_CPU=avx2", "NILM_CPU=avxvnni",
                          "NILM_CPU=avx512vnni", "NILM_CPU=neon", "NILM_CPU=neon_dotprod"};

/* Watts out of 14 numbers that the input names bit by bit. */
struct source {
    float palette[14];
    uint64_t state;
};

static float next_watts(struct source *s)
{
    uint32_t pick = random_below(&s->state, 16);

    return pick < 14 ? s->palette[pick] : (float)random_below(&s->state, 4000);
}

/* watts [window + samples]; expected [results][class_count] are the reference's. */
struct run {
    const struct model *m;
    float *watts, *expected;
    uint32_t samples, hop, results;
    uint32_t meters, step; /* of a batched call */
};

static void check_probabilities(const struct engine *e, const float *logits)
{
    float p[MODEL_MAX_CLASSES];

    engine_probabilities(e, logits, p);
    for (uint32_t i = 0; i < engine_model(e)->class_count; i++)
        FUZZ_CHECK(p[i] >= 0.0f && p[i] <= 1.0f);
}

/* The same stream as several meters, with several samples a call. */
static void check_batch(const struct run *r, const struct engine *e, size_t meters, uint32_t step)
{
    size_t classes = r->m->class_count, bytes = classes * sizeof(float), results[MOST_METERS] = {0};
    float *watts = malloc(meters * step * sizeof(float)), *logits = malloc(meters * bytes);
    void *states[MOST_METERS], *scratch;
    uint8_t due[MOST_METERS];

    FUZZ_CHECK(watts && logits);
    FUZZ_CHECK(posix_memalign(&scratch, ENGINE_ALIGN, engine_batch_scratch_bytes(e)) == 0);
    for (size_t i = 0; i < meters; i++) {
        FUZZ_CHECK(posix_memalign(&states[i], ENGINE_ALIGN, engine_state_bytes(e)) == 0);
        engine_reset(e, states[i]);
    }
    for (uint32_t at = 0; at < r->samples; at += step) {
        size_t n = r->samples - at < step ? r->samples - at : step, count = 0, made;

        for (size_t i = 0; i < meters; i++)
            memcpy(watts + i * n, r->watts + 1 + at, n * sizeof(float));
        made = engine_push_many(e, states, meters, scratch, watts, n, logits, due);
        for (size_t i = 0; i < meters; i++) {
            if (!due[i])
                continue;
            FUZZ_CHECK(results[i] < r->results);
            FUZZ_CHECK(memcmp(logits + i * classes, r->expected + results[i]++ * classes, bytes) ==
                       0);
            count++;
        }
        FUZZ_CHECK(count == made);
    }
    for (size_t i = 0; i < meters; i++) {
        FUZZ_CHECK(results[i] == r->results);
        free(states[i]);
    }
    free(scratch);
    free(watts);
    free(logits);
}

static void check_set(const struct run *r, char *set)
{
    const struct model *m = r->m;
    size_t logits_bytes = m->class_count * sizeof(float);
    void *state, *scratch;
    struct engine *e;
    uint32_t result = 0;
    float *logits = malloc(logits_bytes);
    char why[256] = "";

    FUZZ_CHECK(putenv(set) == 0 && logits);
    if (engine_create(m, r->hop, &e, why, sizeof why) != 0) {
        FUZZ_CHECK(strstr(why, "NILM_CPU") && set != sets[0]);
        free(logits);
        return;
    }
    FUZZ_CHECK(strcmp(engine_isa(e), strchr(set, '=') + 1) == 0);
    FUZZ_CHECK(posix_memalign(&state, ENGINE_ALIGN, engine_state_bytes(e)) == 0);
    FUZZ_CHECK(posix_memalign(&scratch, ENGINE_ALIGN, engine_scratch_bytes(e)) == 0);
    engine_reset(e, state);
    for (uint32_t i = 0; i < r->samples; i++)
        if (engine_push(e, state, scratch, r->watts[i + 1], logits)) {
            FUZZ_CHECK(result < r->results);
            FUZZ_CHECK(
                memcmp(logits, r->expected + (size_t)result * m->class_count, logits_bytes) == 0);
            check_probabilities(e, logits);
            result++;
        }
    FUZZ_CHECK(result == r->results);
    for (uint32_t k = 0; k < r->results; k++) {
        engine_run(e, scratch, r->watts + (size_t)k * r->hop, logits);
        FUZZ_CHECK(memcmp(logits, r->expected + (size_t)k * m->class_count, logits_bytes) == 0);
    }
    check_batch(r, e, r->meters, r->step);
    engine_selftest(e);
    free(state);
    free(scratch);
    free(logits);
    engine_free(e);
}

/* As many results as a few milliseconds allow. */
static void check_runs(const struct model *m, const uint8_t *control)
{
    uint64_t macs = model_macs(m) + (uint64_t)m->window * m->channel_count;
    struct run r = {.m = m, .hop = 1u + (control[0] | (uint32_t)control[1] << 8) % m->window};
    uint64_t turns;
    struct source s;

    if (macs > MOST_MACS)
        return;
    /* A turn may cost a whole window, and turns begin with the first sample: not too many. */
    while (r.hop < m->window && macs * (m->window / r.hop) > MOST_WORK)
        r.hop++;
    r.results = 1 + (uint32_t)(MOST_MACS / macs);
    r.results = r.results < MOST_TURNS ? r.results : MOST_TURNS;
    if (r.hop * r.results > 20000)
        r.results = 1;
    r.samples = m->window + (r.results - 1) * r.hop;
    turns = r.samples / r.hop + 1;
    r.meters = 1 + control[3] % MOST_METERS;
    while (r.meters > 1 && macs * turns * r.meters > MOST_WORK)
        r.meters--;
    r.step = 1 + control[4] % r.hop;
    memcpy(s.palette, control + 8, sizeof s.palette);
    s.state = control[2];
    r.watts = malloc((r.samples + 1) * sizeof(float));
    r.expected = malloc((size_t)r.results * m->class_count * sizeof(float));
    FUZZ_CHECK(r.watts && r.expected);
    for (uint32_t i = 1; i <= r.samples; i++)
        r.watts[i] = next_watts(&s);
    r.watts[0] = r.watts[1]; /* the first sample's predecessor is itself */
    for (uint32_t k = 0; k < r.results; k++)
        reference_run(m, r.watts + (size_t)k * r.hop, r.expected + (size_t)k * m->class_count);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        check_set(&r, sets[i]);
    free(r.watts);
    free(r.expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t control[CONTROL] = {0}, *file;
    size_t n = size < CONTROL ? size : CONTROL, size_again;
    struct model *m;
    void *again;
    char why[256] = "";

    if (n)
        memcpy(control, data, n);
    size -= n;
    file = malloc(size ? size : 1); /* of its own size, and gone after decoding */
    FUZZ_CHECK(file);
    memcpy(file, data + n, size);
    if (model_decode(file, size, &m, why, sizeof why) != 0) {
        FUZZ_CHECK(m == NULL && why[0]);
        free(file);
        return 0;
    }
    FUZZ_CHECK(model_encode(m, &again, &size_again, why, sizeof why) == 0);
    FUZZ_CHECK(size == size_again && memcmp(again, file, size) == 0);
    free(again);
    free(file);
    if (m->dtype == MODEL_INT8)
        check_runs(m, control);
    model_free(m);
    return 0;
}

static uint32_t load_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Lays the sections out anew, `section` with other bytes. Returns the new size, 0: no room. */
static size_t lay_out(uint8_t *file, size_t max, unsigned section, const uint8_t *bytes,
                      size_t count)
{
    uint8_t *made = calloc(1, max);
    size_t at = FIRST_SECTION;

    FUZZ_CHECK(made);
    memcpy(made, file, FIRST_SECTION);
    for (unsigned i = 0; i < SECTIONS; i++) {
        uint32_t length = load_u32(file + HEADER + 16 * i + 8), offset;
        const uint8_t *from = file + load_u32(file + HEADER + 16 * i + 4);

        if (i == section) {
            from = bytes;
            length = (uint32_t)count;
        }
        at = (at + 7) / 8 * 8;
        if (at > max || length > max - at) {
            free(made);
            return 0;
        }
        offset = (uint32_t)at;
        memcpy(made + HEADER + 16 * i + 4, &offset, 4);
        memcpy(made + HEADER + 16 * i + 8, &length, 4);
        memcpy(made + at, from, length);
        at += length;
    }
    memcpy(file, made, at);
    free(made);
    return at;
}

/* True when the table leads to sections inside the file. */
static int has_sections(const uint8_t *file, size_t size)
{
    if (size < FIRST_SECTION)
        return 0;
    for (unsigned i = 0; i < SECTIONS; i++) {
        uint32_t offset = load_u32(file + HEADER + 16 * i + 4);

        if (offset > size || load_u32(file + HEADER + 16 * i + 8) > size - offset)
            return 0;
    }
    return 1;
}

/* A few random numbers where structure is: what chance seldom hits together. */
static void poke(uint64_t *s, uint8_t *bytes, size_t count)
{
    static const uint32_t numbers[] = {0,          1,          2,          3,          7,
                                       8,          16,         64,         255,        256,
                                       0x7f,       0x80,       1024,       16384,      65536,
                                       0x7fffffff, 0x80000000, 0xffffffff, 0x40000000, 0x3f800000,
                                       0x7f800000, 0x7fc00000, 0x00000001, 0x67800000, 0x17800000};
    uint32_t v = numbers[random_below(s, sizeof numbers / sizeof numbers[0])];
    size_t at;

    if (count < 4)
        return;
    at = random_below(s, (uint32_t)count);
    if (random_below(s, 2)) {
        bytes[at] = (uint8_t)v;
        return;
    }
    at = at / 4 * 4;
    if (at + 4 <= count)
        memcpy(bytes + at, &v, 4);
}

/* A model of another shape. Returns its size, 0 when it has no room. */
static size_t begin_anew(uint64_t *s, uint8_t *file, size_t max)
{
    enum model_dtype dtype = random_below(s, 8) ? MODEL_INT8 : MODEL_FP32;
    struct model *m = random_model_create(random_next(s), dtype);
    void *bytes;
    size_t size;

    if (dtype == MODEL_INT8 && random_below(s, 4) == 0)
        random_model_add_golden(m, *s, 1);
    FUZZ_CHECK(model_encode(m, &bytes, &size, NULL, 0) == 0);
    random_model_free(m);
    if (size <= max)
        memcpy(file, bytes, size);
    free(bytes);
    return size <= max ? size : 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t s = seed;
    uint8_t *file = data + CONTROL, *bytes;
    uint32_t what = random_below(&s, 32), section, length;
    size_t count, made;

    if (max_size <= CONTROL + FIRST_SECTION || what == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (size <= CONTROL || what == 1) {
        if (size < CONTROL)
            memset(data + size, 0, CONTROL - size);
        count = begin_anew(&s, file, max_size - CONTROL);
        return count ? CONTROL + count : LLVMFuzzerMutate(data, size, max_size);
    }
    if (what < 6) {
        LLVMFuzzerMutate(data, CONTROL, CONTROL);
        return size;
    }
    if (!has_sections(file, size - CONTROL))
        return LLVMFuzzerMutate(data, size, max_size);
    section = random_below(&s, SECTIONS);
    length = load_u32(file + HEADER + 16 * section + 8);
    bytes = malloc((size_t)length + max_size - size + 1);
    FUZZ_CHECK(bytes);
    memcpy(bytes, file + load_u32(file + HEADER + 16 * section + 4), length);
    count = length;
    if (what < 16)
        poke(&s, bytes, count);
    else if (length && what < 28) /* the same length: numbers, not structure */
        LLVMFuzzerMutate(bytes, length, length);
    else
        count = LLVMFuzzerMutate(bytes, length, length + (max_size - size));
    made = lay_out(file, max_size - CONTROL, section, bytes, count);
    free(bytes);
    if (made)
        size = CONTROL + made;
    model_file_seal(file, size - CONTROL);
    return size;
}
