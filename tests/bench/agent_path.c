/* agent_path.c - what a reading costs on its way through the agent, many meters in one process.
 *
 * The meters are the agent's own (agent/meter.h) and see days of the simulated appliances, one
 * reading a second each, every meter at another time of day. A second is one round over all
 * meters, so between two readings of a meter the states of all others pass through the caches.
 * Stages are measured by running each alone on the same readings, with states of its own: inside
 * a call of 100 ns a clock would measure itself. Storing what is found is not part of it: the sink
 * counts. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/detector.h"
#include "agent/meter.h"
#include "agent/meter_window.h"
#include "agent/sim.h"

#define DAY_S 86400u
#define START_MS 1704067200000 /* 2024-01-01 00:00 UTC */
#define SEEDS 3u               /* days of each appliance */
#define MAX_DAYS 96u
#define MAX_ROUTINES 64u
#define STAGGER_S 64u /* meters begin within so many seconds, so their turns do not coincide */
#define BLOCK_S 64u   /* rounds that are one measurement; several turns of the engine */
#define MAX_BLOCKS 64u
#define WARM_S 128u /* rounds before measuring begins: all have begun, pages are there */

struct options {
    const char *model;
    uint32_t meters, blocks;
    int cpu, json;
    float base_w; /* added to every reading: above min_activity_w no window is quiet */
};

struct bench {
    struct options o;
    struct model *model;
    struct engine *engine;
    float *days[MAX_DAYS]; /* [DAY_S], one reading a second */
    uint32_t day_count;
    struct meter_shared *shared;
    struct meter_scratch scratch; /* of windows without a meter */
    float *watts;                 /* [meters]: of the second in progress */
    struct routine routines[MAX_ROUTINES];
    uint32_t routine_count;
    uint64_t events, alerts, inferences, readings;
};

struct stage { /* one thing that every reading is put through */
    int (*begin)(struct bench *b, void **all);
    void (*reading)(struct bench *b, void *all, uint32_t meter, int64_t t_ms, float watts);
    void (*end)(struct bench *b, void *all);
};

struct result {
    double median_ns;        /* a reading; of the blocks */
    double slowest_round_ms; /* all meters' readings of one second */
    double bytes;            /* of heap, a meter */
};

static const struct meter_config meter_settings = {
    .name = "m",
    .on_w = 15,
    .off_w = 10,
    .min_on_ms = 2000,
    .min_off_ms = 30000,
    .silence_ms = 600000,
    .max_gap_ms = 60000,
    .quality = EVENT_CLOCK,
};

/* Time that this thread has had: other programs may run beside it. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "agent_path: out of memory\n");
        exit(3);
    }
    return p;
}

/* ---- readings ---- */

/* A simulated day; what lies between its readings is as the reading before. */
static float *make_day(const char *appliance, uint64_t seed, float base_w)
{
    float *day = must(malloc(DAY_S * sizeof(*day)));
    struct sim *sim = NULL;
    struct sim_run ended;
    struct trace_reading r = {START_MS, 0};
    float watts = 0;
    if (sim_create(appliance, seed, START_MS, &sim))
        must(NULL);
    for (uint32_t t = 0; t < DAY_S; t++) {
        while (r.t_ms <= START_MS + (int64_t)t * 1000) {
            watts = r.watts;
            sim_next(sim, &r, &ended);
        }
        day[t] = watts + base_w;
    }
    sim_destroy(sim);
    return day;
}

static void make_days(struct bench *b)
{
    for (const char *const *name = sim_appliances(); *name; name++)
        for (uint64_t seed = 1; seed <= SEEDS && b->day_count < MAX_DAYS; seed++)
            b->days[b->day_count++] = make_day(*name, seed, b->o.base_w);
}

static float reading_of(const struct bench *b, uint32_t meter, uint32_t second)
{
    uint32_t offset = (uint32_t)((uint64_t)(meter * 2654435761u) * DAY_S >> 32);
    return b->days[meter % b->day_count][(offset + second) % DAY_S];
}

/* ---- surroundings of a meter ---- */

static struct routine *find_routine(struct bench *b, const char *appliance)
{
    for (uint32_t i = 0; i < b->routine_count; i++)
        if (!strcmp(b->routines[i].appliance, appliance))
            return &b->routines[i];
    return NULL;
}

/* What was learned is kept by appliance alone, so that all meters soon have something to judge by.
 */
static int commit(void *context, const struct outcome *o)
{
    struct bench *b = context;
    b->events += (uint64_t)o->event_count;
    b->alerts += (uint64_t)o->alert_count;
    if (o->has_routine) {
        struct routine *r = find_routine(b, o->routine.appliance);
        if (!r && b->routine_count < MAX_ROUTINES)
            r = &b->routines[b->routine_count++];
        if (r)
            *r = o->routine;
    }
    return 0;
}

static int recall(void *context, const char *meter, const char *appliance, struct routine *out)
{
    const struct routine *r = find_routine(context, appliance);
    (void)meter;
    if (!r)
        return -ENOENT;
    *out = *r;
    return 0;
}

/* ---- stages ---- */

static int path_begin(struct bench *b, void **all)
{
    struct outcome_sink sink = {b, commit};
    struct meter_memory memory = {b, recall};
    struct meter **m = must(calloc(b->o.meters, sizeof(*m)));
    int rc = 0;
    for (uint32_t i = 0; i < b->o.meters && !rc; i++)
        rc = meter_create(&meter_settings, b->engine, &sink, &memory, b->shared, &m[i]);
    *all = m;
    return rc;
}

static void path_reading(struct bench *b, void *all, uint32_t meter, int64_t t_ms, float watts)
{
    (void)b;
    meter_reading(((struct meter **)all)[meter], t_ms, watts);
}

static void path_end(struct bench *b, void *all)
{
    struct meter **m = all;
    struct meter_status status;
    for (uint32_t i = 0; i < b->o.meters; i++) {
        meter_get_status(m[i], &status);
        b->inferences += status.inferences;
        b->readings += status.readings;
        meter_destroy(m[i]);
    }
    free(m);
}

static int window_begin(struct bench *b, void **all)
{
    struct meter_window *w = must(calloc(b->o.meters, sizeof(*w)));
    int rc = 0;
    for (uint32_t i = 0; i < b->o.meters && !rc; i++)
        rc = meter_window_init(&w[i], b->engine, meter_settings.max_gap_ms, &b->scratch);
    *all = w;
    return rc;
}

static void window_reading(struct bench *b, void *all, uint32_t meter, int64_t t_ms, float watts)
{
    struct meter_window *w = (struct meter_window *)all + meter;
    (void)b;
    if (meter_window_push(w, t_ms, watts))
        return;
    while (meter_window_next(w) >= 0)
        ;
}

static void window_end(struct bench *b, void *all)
{
    struct meter_window *w = all;
    for (uint32_t i = 0; i < b->o.meters; i++)
        meter_window_free(&w[i]);
    free(w);
}

static int grid_begin(struct bench *b, void **all)
{
    struct resample *r = must(calloc(b->o.meters, sizeof(*r)));
    for (uint32_t i = 0; i < b->o.meters; i++)
        resample_init(&r[i], (int64_t)b->model->period_ms, meter_settings.max_gap_ms);
    *all = r;
    return 0;
}

static void grid_reading(struct bench *b, void *all, uint32_t meter, int64_t t_ms, float watts)
{
    struct resample *r = (struct resample *)all + meter;
    struct resample_sample s;
    (void)b;
    if (resample_push(r, t_ms, watts))
        return;
    while (resample_next(r, &s))
        ;
}

static int detector_begin(struct bench *b, void **all)
{
    struct detector *d = must(calloc(b->o.meters, sizeof(*d)));
    for (uint32_t i = 0; i < b->o.meters; i++)
        detector_init(&d[i]);
    *all = d;
    return 0;
}

static void detector_reading(struct bench *b, void *all, uint32_t meter, int64_t t_ms, float watts)
{
    static const struct detector_config c = {15, 10, 2000, 30000, 600000, 60000};
    struct detector *d = (struct detector *)all + meter;
    struct detector_run run;
    (void)b;
    detector_pass(d, &c, t_ms, &run);
    detector_push(d, &c, t_ms, (double)watts, &run);
}

static void plain_end(struct bench *b, void *all)
{
    (void)b;
    free(all);
}

static const struct stage path_stage = {path_begin, path_reading, path_end},
                          window_stage = {window_begin, window_reading, window_end},
                          grid_stage = {grid_begin, grid_reading, plain_end},
                          detector_stage = {detector_begin, detector_reading, plain_end};

/* ---- measuring ---- */

static size_t heap_bytes(void)
{
    struct mallinfo2 i = mallinfo2();
    return i.uordblks + i.hblkhd;
}

/* One second: every meter that has begun gets its reading. The readings are laid out beforehand:
 * where they come from is not part of the path. Returns ns. */
static uint64_t round_of(struct bench *b, const struct stage *s, void *all, uint32_t second)
{
    const int64_t t_ms = START_MS + (int64_t)second * 1000;
    for (uint32_t i = 0; i < b->o.meters; i++)
        b->watts[i] = reading_of(b, i, second);
    const uint64_t before = now_ns();
    for (uint32_t i = 0; i < b->o.meters; i++)
        if (second >= STAGGER_S || i % STAGGER_S <= second)
            s->reading(b, all, i, t_ms, b->watts[i]);
    return now_ns() - before;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(struct bench *b, const struct stage *s, struct result *out)
{
    const size_t heap = heap_bytes();
    void *all = NULL;
    uint64_t slowest = 0;
    double blocks[MAX_BLOCKS] = {0};
    int rc = s->begin(b, &all);
    out->bytes = (double)(heap_bytes() - heap) / b->o.meters;
    for (uint32_t t = 0; t < WARM_S + b->o.blocks * BLOCK_S && !rc; t++) {
        const uint64_t ns = round_of(b, s, all, t);
        if (t < WARM_S)
            continue;
        blocks[(t - WARM_S) / BLOCK_S] += (double)ns / BLOCK_S / b->o.meters;
        slowest = ns > slowest ? ns : slowest;
    }
    qsort(blocks, b->o.blocks, sizeof(*blocks), compare);
    out->median_ns = blocks[b->o.blocks / 2];
    out->slowest_round_ms = (double)slowest / 1e6;
    s->end(b, all);
    if (rc)
        fprintf(stderr, "agent_path: %s\n", strerror(-rc));
    return rc;
}

/* ---- the report ---- */

struct report {
    struct result path, window, grid, detector;
};

static double rest_of(const struct report *r)
{
    return r->path.median_ns - r->window.median_ns - r->detector.median_ns;
}

static void print_json(const struct bench *b, const struct report *r)
{
    printf("{\"kernels\": \"%s\", \"meters\": %u, \"seconds\": %u, \"base_w\": %g, "
           "\"readings_per_second\": %.0f, \"ns_per_reading\": %.1f, \"ns_resample\": %.1f, "
           "\"ns_window_engine\": %.1f, \"ns_detector\": %.1f, \"ns_rest\": %.1f, "
           "\"slowest_round_ms\": %.2f, \"bytes_per_meter\": %.0f, \"bytes_engine_state\": %zu, "
           "\"inferences_per_reading\": %.5f, \"events\": %llu, \"alerts\": %llu}\n",
           engine_isa(b->engine), b->o.meters, b->o.blocks * BLOCK_S, (double)b->o.base_w,
           1e9 / r->path.median_ns, r->path.median_ns, r->grid.median_ns,
           r->window.median_ns - r->grid.median_ns, r->detector.median_ns, rest_of(r),
           r->path.slowest_round_ms, r->path.bytes, engine_state_bytes(b->engine),
           (double)b->inferences / (double)b->readings, (unsigned long long)b->events,
           (unsigned long long)b->alerts);
}

static void print_table(const struct bench *b, const struct report *r)
{
    printf("%u meters, one reading a second each for %u s, kernels %s\n", b->o.meters,
           b->o.blocks * BLOCK_S, engine_isa(b->engine));
    printf("  whole path       %8.1f ns a reading: %.2f million meters a core\n", r->path.median_ns,
           1e3 / r->path.median_ns);
    printf("    resample       %8.1f ns\n", r->grid.median_ns);
    printf("    window, engine %8.1f ns\n", r->window.median_ns - r->grid.median_ns);
    printf("    detector       %8.1f ns\n", r->detector.median_ns);
    printf("    the rest       %8.1f ns (belief, routine, outcomes)\n", rest_of(r));
    printf("  slowest second   %8.2f ms for all meters\n", r->path.slowest_round_ms);
    printf("  memory           %8.0f bytes a meter (engine's stream: %zu)\n", r->path.bytes,
           engine_state_bytes(b->engine));
    printf("  found            %llu events, %llu alerts, a classification every %.1f readings\n",
           (unsigned long long)b->events, (unsigned long long)b->alerts,
           (double)b->readings / (double)b->inferences);
}

static int measure_all(struct bench *b)
{
    struct report r;
    int rc = measure(b, &path_stage, &r.path);
    if (!rc)
        rc = measure(b, &window_stage, &r.window);
    if (!rc)
        rc = measure(b, &grid_stage, &r.grid);
    if (!rc)
        rc = measure(b, &detector_stage, &r.detector);
    if (!rc)
        (b->o.json ? print_json : print_table)(b, &r);
    return rc;
}

/* ---- options ---- */

static void usage(FILE *f)
{
    fprintf(f, "usage: agent_path [--meters N] [--blocks B] [--cpu C] [--base-watts W] [--json] "
               "MODEL\n\n"
               "Time and memory of the agent's path from a reading to an event.\n"
               "  --meters N      resident at once (10000)\n"
               "  --blocks B      measured, of 64 s each; their median counts (5)\n"
               "  --cpu C         the core it stays on; -1: any (0)\n"
               "  --base-watts W  added to every reading (0); 50: no window is quiet\n"
               "  --json          one line of JSON\n");
}

static int number(const char *name, const char *text, long least, long most, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (!errno && end != text && !*end && *out >= least && *out <= most)
        return 0;
    fprintf(stderr, "agent_path: %s: expected %ld to %ld, found \"%s\"\n", name, least, most, text);
    return -EINVAL;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"meters", required_argument, NULL, 'm'},
                                            {"blocks", required_argument, NULL, 'n'},
                                            {"cpu", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"base-watts", required_argument, NULL, 'b'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    long n = 0;
    *o = (struct options){.meters = 10000, .blocks = 5};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        int rc = 0;
        if (c == 'm' && !(rc = number("--meters", optarg, 1, 1000000, &n)))
            o->meters = (uint32_t)n;
        else if (c == 'n' && !(rc = number("--blocks", optarg, 1, MAX_BLOCKS, &n)))
            o->blocks = (uint32_t)n;
        else if (c == 'c' && !(rc = number("--cpu", optarg, -1, CPU_SETSIZE - 1, &n)))
            o->cpu = (int)n;
        else if (c == 'b' && !(rc = number("--base-watts", optarg, 0, 100000, &n)))
            o->base_w = (float)n;
        else if (c == 'j')
            o->json = 1;
        else if (c == 'h') {
            usage(stdout);
            exit(0);
        }
        if (rc || c == '?')
            return -EINVAL;
    }
    if (optind + 1 != argc) {
        usage(stderr);
        return -EINVAL;
    }
    o->model = argv[optind];
    return 0;
}

static int pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.day_count = 0};
    char why[256] = "";
    int rc = parse(argc, argv, &b.o);
    if (rc)
        return 1;
    rc = pin(b.o.cpu);
    if (rc) {
        fprintf(stderr, "agent_path: --cpu %d: %s\n", b.o.cpu, strerror(-rc));
        return 3;
    }
    rc = model_decode_file(b.o.model, &b.model, why, sizeof(why));
    if (!rc)
        rc = engine_create(b.model, 0, &b.engine, why, sizeof(why));
    if (!rc)
        must(meter_shared_create(&b.shared) ? NULL : b.shared);
    if (rc) {
        fprintf(stderr, "agent_path: %s: %s\n", b.o.model, why);
    } else {
        b.watts = must(calloc(b.o.meters, sizeof(*b.watts)));
        make_days(&b);
        rc = measure_all(&b);
    }
    for (uint32_t i = 0; i < b.day_count; i++)
        free(b.days[i]);
    free(b.watts);
    meter_shared_destroy(b.shared);
    meter_window_free_scratch(&b.scratch);
    engine_free(b.engine);
    model_free(b.model);
    return rc ? 2 : 0;
}
