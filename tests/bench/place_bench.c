/* place_bench.c - learning of a place on recorded days, without an agent around it; place.py runs
 * it.
 *
 * switches DATA TRUTH PERIOD_MS LEARN_FROM LEARN_TO FIND_FROM FIND_TO
 *   learns from the true runs that begin in the first stretch (Unix ms), finds switchings in the
 *   second; prints CSV appliance,start,end.
 * runs FILE
 *   CSV start_ms,duration_s,energy_wh,peak_w,up_w,down_w of runs in the order of time; prints, for
 *   each, the number of the load that it was put into, and the number that this is in the end.
 * named FILE
 *   the same with a name behind: a person gave it to that run. Prints, for each run without one,
 * the name that it gets, or -.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/edges.h"
#include "agent/place.h"
#include "agent/place_house.h"
#include "agent/place_switch.h"
#include "agent/separate.h"
#include "inference/resample.h"
#include "inference/trace.h"

enum { NAMES = 32, RUNS = 4096, CELLS = 4000000 };

struct appliance {
    char name[PLACE_NAME_BYTES];
    struct place_switch_run runs[RUNS];
    size_t count;
};

static struct appliance appliances[NAMES];
static size_t appliance_count;

static int fail(const char *what)
{
    fprintf(stderr, "place_bench: %s\n", what);
    return 2;
}

static struct appliance *find(const char *name)
{
    for (size_t i = 0; i < appliance_count; i++)
        if (strcmp(appliances[i].name, name) == 0)
            return &appliances[i];
    if (appliance_count == NAMES)
        return NULL;
    snprintf(appliances[appliance_count].name, PLACE_NAME_BYTES, "%s", name);
    return &appliances[appliance_count++];
}

/* True runs that begin in [from, to). */
static int read_truth(const char *path, int64_t from, int64_t to)
{
    char line[512], name[PLACE_NAME_BYTES];
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    while (fgets(line, sizeof line, f)) {
        int64_t start, end;
        if (sscanf(line, "%63[^,],%" SCNd64 ",%" SCNd64, name, &start, &end) != 3 ||
            name[0] == '_' || start < from || start >= to)
            continue;
        struct appliance *a = find(name);
        if (a && a->count < RUNS)
            a->runs[a->count++] = (struct place_switch_run){start, end};
    }
    fclose(f);
    return 0;
}

static int read_cells(const char *paths, struct place_switch_cells *out)
{
    char why[512], *copy = strdup(paths), *rest = copy;
    float *watts = malloc(CELLS * sizeof *watts);
    struct resample_sample sample;
    struct resample grid;
    int rc = copy && watts ? 0 : -1;
    resample_init(&grid, out->period_ms, out->period_ms * 4 > 60000 ? out->period_ms * 4 : 60000);
    for (char *path; rc == 0 && (path = strsep(&rest, ",")) != NULL;) {
        struct trace_reading r;
        struct trace *t;
        int next;
        if (trace_open(path, TRACE_AUTO, NULL, &t, why, sizeof why) < 0)
            return fail(why);
        while ((next = trace_next(t, &r)) != 0) {
            if (next < 0 || resample_push(&grid, r.t_ms, r.watts) != 0)
                continue;
            while (resample_next(&grid, &sample)) {
                if (out->count == 0)
                    out->first_ms = sample.t_ms;
                size_t at = (size_t)((sample.t_ms - out->first_ms) / out->period_ms);
                for (; out->count < at && out->count < CELLS;)
                    watts[out->count++] = NAN;
                if (at < CELLS) {
                    watts[at] = sample.mark == RESAMPLE_GAP ? NAN : sample.watts;
                    out->count = at + 1;
                }
            }
        }
        trace_close(t);
    }
    free(copy);
    out->watts = watts;
    return rc;
}

static struct place_switch_cells part(const struct place_switch_cells *c, int64_t from, int64_t to)
{
    int64_t a = (from - c->first_ms) / c->period_ms, b = (to - c->first_ms) / c->period_ms;
    a = a < 0 ? 0 : a > (int64_t)c->count ? (int64_t)c->count : a;
    b = b < a ? a : b > (int64_t)c->count ? (int64_t)c->count : b;
    return (struct place_switch_cells){c->first_ms + a * c->period_ms, c->period_ms,
                                       (size_t)(b - a), c->watts + a};
}

static void decode(const char *name, const struct place_switch *s,
                   const struct place_switch_background *b, const struct place_switch_cells *c)
{
    static struct place_switch_state state;
    static struct place_switch_window window;
    float change[PLACE_SWITCH_SCALES] = {0};
    int64_t start = 0, when;
    memset(&state, 0, sizeof state);
    memset(&window, 0, sizeof window);
    for (size_t i = 0; i < c->count + PLACE_SWITCH_LOOKBACK; i++) {
        int64_t t = c->first_ms + ((int64_t)i - PLACE_SWITCH_REACH + 1) * c->period_ms;
        int on, known = i < c->count && place_switch_push(&window, c->watts[i], change);
        if (!place_switch_step(s, b, &state, t, change, known, &on, &when))
            continue;
        if (!on)
            printf("%s,%" PRId64 ",%" PRId64 "\n", name, start, when);
        start = on ? when : 0;
    }
    if (start)
        printf("%s,%" PRId64 ",\n", name, start);
}

static int switches(char **argv)
{
    struct place_switch_cells cells = {.period_ms = atoll(argv[4])};
    static struct place_switch_background background;
    static struct place_switch s;
    int64_t from = atoll(argv[5]), to = atoll(argv[6]);
    if (cells.period_ms <= 0 || read_truth(argv[3], from, to) < 0 || read_cells(argv[2], &cells))
        return fail("cannot read");
    struct place_switch_cells learn = part(&cells, from, to);
    struct place_switch_cells look = part(&cells, atoll(argv[7]), atoll(argv[8]));
    if (place_switch_learn_background(&learn, &background) < 0)
        return fail("too little to learn from");
    puts("appliance,start,end");
    for (size_t i = 0; i < appliance_count; i++) {
        if (place_switch_learn(&learn, &background, appliances[i].runs, appliances[i].count, &s) <
            0)
            fprintf(stderr, "%s: too few runs\n", appliances[i].name);
        else
            decode(appliances[i].name, &s, &background, &look);
    }
    free((void *)cells.watts);
    return 0;
}

static int runs(const char *path)
{
    static struct place place;
    static uint32_t numbers[1 << 20], becomes[1 << 20];
    size_t count = 0;
    char line[512];
    FILE *f = fopen(path, "re");
    if (!f)
        return fail("cannot read");
    place_init(&place);
    while (fgets(line, sizeof line, f) && count < sizeof numbers / sizeof *numbers) {
        struct place_run r;
        struct place_point p;
        uint32_t merged;
        if (sscanf(line, "%" SCNd64 ",%lf,%lf,%lf,%lf,%lf", &r.start_ms, &r.duration_s,
                   &r.energy_wh, &r.peak_w, &r.up_w, &r.down_w) != 6)
            continue;
        struct place_load *l = place_point(&r, &p) == 0 ? place_add(&place, &p, &r, &merged) : NULL;
        numbers[count++] = l ? l->number : 0;
        if (l && merged)
            becomes[merged] = l->number;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t last = numbers[i];
        while (becomes[last])
            last = becomes[last];
        printf("%" PRIu32 ",%" PRIu32 "\n", numbers[i], last);
    }
    fclose(f);
    return 0;
}

static int named(const char *path)
{
    static struct place place;
    char line[512];
    FILE *f = fopen(path, "re");
    if (!f)
        return fail("cannot read");
    place_init(&place);
    while (fgets(line, sizeof line, f)) {
        char name[PLACE_NAME_BYTES] = "";
        struct place_run r;
        struct place_point p;
        if (sscanf(line, "%" SCNd64 ",%lf,%lf,%lf,%lf,%lf,%63[^\n]", &r.start_ms, &r.duration_s,
                   &r.energy_wh, &r.peak_w, &r.up_w, &r.down_w, name) < 6)
            continue;
        uint32_t merged;
        if (place_point(&r, &p) < 0) {
            puts("-");
            continue;
        }
        const struct place_load *l = name[0] ? place_correct(&place, &p, &r, NULL, name)
                                             : place_add(&place, &p, &r, &merged);
        puts(l && l->name[0] ? l->name : "-");
    }
    fclose(f);
    return 0;
}

/* --- a house --- */

static struct place_pulse pulses[65536];
static size_t pulse_count;

static int read_pulses(const char *path, int64_t *last_ms)
{
    static struct place_pulses state;
    static struct edges_zero zero;
    struct trace_reading r;
    struct trace *t = NULL;
    char why[256];
    int rc = trace_open(path, TRACE_AUTO, NULL, &t, why, sizeof why);
    while (rc >= 0 && ((rc = trace_next(t, &r)) > 0 || rc == -EBADMSG)) {
        if (rc < 0)
            continue;
        *last_ms = r.t_ms;
        edges_note(&zero, r.t_ms, r.watts);
        if (!edges_left_out(&zero, r.t_ms, r.watts) &&
            pulse_count < sizeof pulses / sizeof pulses[0])
            pulse_count +=
                (size_t)place_pulses_push(&state, r.t_ms, r.watts, 60000, &pulses[pulse_count]);
        rc = 0;
    }
    trace_close(t);
    return rc < 0 ? fail(why) : 0;
}

/* CSV appliance,start_ms,end_ms of one name. */
static size_t read_said(const char *path, const char *name, struct place_said *out, size_t room)
{
    char line[512], found[PLACE_HOUSE_NAME_BYTES];
    size_t n = 0;
    FILE *f = fopen(path, "re");
    while (f && n < room && fgets(line, sizeof line, f))
        n += sscanf(line, "%63[^,],%" SCNd64 ",%" SCNd64, found, &out[n].start_ms,
                    &out[n].end_ms) == 3 &&
             strcmp(found, name) == 0;
    if (f)
        fclose(f);
    return n;
}

static int separate_house(const char *model_path, const char *data, const char *out,
                          const struct place_house *house)
{
    struct separate_report report;
    struct model *model = NULL;
    char why[256] = "";
    int rc = model_decode_file(model_path, &model, why, sizeof why);
    struct separate_order order = {.model = model,
                                   .paths = &data,
                                   .path_count = 1,
                                   .max_gap_ms = 60000,
                                   .silence_ms = 600000,
                                   .format = SEPARATE_CSV,
                                   .events = fopen(out, "we"),
                                   .house = house};
    if (rc == 0)
        rc = order.events ? separate_run(&order, &report, why, sizeof why) : -errno;
    if (order.events)
        fclose(order.events);
    model_free(model);
    return rc < 0 ? fail(why) : 0;
}

/* MODEL LEARN_DATA LIST EVENTS TEST_DATA OUT NAME.. */
static int house(int argc, char **argv)
{
    static struct place_house h;
    static struct place_said said[RUNS], found[RUNS];
    int64_t last_ms = 0;
    if (read_pulses(argv[3], &last_ms) != 0)
        return 2;
    for (int i = 8; i < argc && h.count < PLACE_HOUSE_NAMES; i++) {
        struct place_proto *p = &h.protos[h.count];
        size_t n = read_said(argv[4], argv[i], said, RUNS);
        size_t k = read_said(argv[5], argv[i], found, RUNS);
        if (place_proto_learn(argv[i], pulses, pulse_count, said, n, found, k, NULL, last_ms, p) <
            0)
            continue;
        h.count++;
        fprintf(
            stderr,
            "%s: %zu said, %zu found: %s, %.0f W, %d right, %d wrong, %.0f s late, least %d s\n",
            p->name, n, k,
            p->pulses   ? "pulses"
            : p->scores ? "scores"
                        : "runs",
            (double)p->level_w, p->right, p->wrong, p->early_ms / 1e3, p->least_s);
    }
    h.version = 1;
    return separate_house(argv[2], argv[6], argv[7], &h);
}

int main(int argc, char **argv)
{
    if (argc >= 9 && strcmp(argv[1], "house") == 0)
        return house(argc, argv);
    if (argc == 9 && strcmp(argv[1], "switches") == 0)
        return switches(argv);
    if (argc == 3 && strcmp(argv[1], "runs") == 0)
        return runs(argv[2]);
    if (argc == 3 && strcmp(argv[1], "named") == 0)
        return named(argv[2]);
    return fail("switches DATA TRUTH PERIOD LEARN_FROM LEARN_TO FIND_FROM FIND_TO | runs FILE | "
                "named FILE");
}
