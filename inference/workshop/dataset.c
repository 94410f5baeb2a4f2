/* dataset.c - see dataset.h. Which files there are and which part they belong to: dataset_files.c,
 * dataset_split.c. */
#include "inference/workshop/dataset.h"

#include "inference/resample.h"
#include "inference/trace.h"
#include "inference/workshop/dataset_files.h"
#include "inference/workshop/mix.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 8, MAX_WINDOW = 16384 };
#define MAX_GRID                                                                                   \
    (1u << 24) /* samples of one file: four years of 8 s; a corrupt file must not take all memory  \
                */

/* Why these. 512 samples of 8 s are 68 minutes: a cycle of a refrigerator, a wash's heating and
 * first turns. A stride of 64 sees every run at eight places of the window. 5 W, four times (32 s):
 * of tracebase's 43 classes this keeps windows of every one with five traces or more, down to the
 * USB hub, router and Ethernet switch, and leaves out standby, where a coffee maker (4 W), a
 * dishwasher, a television and a washing machine (1 to 4 W) look alike and nothing is on: at 2 W a
 * third of all windows would be standby. Only phone chargers stay below it (two traces;
 * --min-activity 3 keeps them). Below five traces a class cannot be trained, validated and tested
 * on different days. */
void dataset_defaults(struct dataset_options *options)
{
    *options = (struct dataset_options){
        .window = 512,
        .period_ms = 8000,
        .stride = 64,
        .min_activity_w = 5.0f,
        .min_active_samples = 4,
        .max_gap_share = 0.5f,
        .min_traces = 5,
        .split = SPLIT_NONE,
        .part = PART_ALL,
        .split_seed = 1,
    };
}

/* --- one file --- */

struct loaded { /* what one file gave */
    struct dataset_trace *segments;
    size_t count;
    uint64_t bad, backward;
    int rc;
};

static int add_segment(struct loaded *l, const struct dataset_file *file)
{
    struct dataset_trace *segments = realloc(l->segments, (l->count + 1) * sizeof *segments);
    if (segments == NULL)
        return -ENOMEM;
    l->segments = segments;
    struct dataset_trace *s = &segments[l->count++];
    *s = (struct dataset_trace){.path = strdup(file->path),
                                .device = strdup(file->device),
                                .key = strdup(file->key),
                                .label = file->label};
    return s->path && s->device && s->key ? 0 : -ENOMEM;
}

/* Room doubles whenever the count is a power of two, so no capacity needs keeping. */
static int add_sample(struct dataset_trace *s, const struct resample_sample *sample)
{
    if (s->count == 0 || (s->count >= 1024 && (s->count & (s->count - 1)) == 0)) {
        size_t room = s->count ? 2 * (size_t)s->count : 1024;
        float *watts = realloc(s->watts, room * sizeof *watts);
        if (watts)
            s->watts = watts;
        uint8_t *gap = realloc(s->gap, room);
        if (gap)
            s->gap = gap;
        if (watts == NULL || gap == NULL)
            return -ENOMEM;
    }
    s->watts[s->count] = sample->watts;
    s->gap[s->count++] = sample->mark == RESAMPLE_GAP;
    return 0;
}

static void free_trace(struct dataset_trace *s)
{
    free(s->path);
    free(s->device);
    free(s->key);
    free(s->watts);
    free(s->gap);
    free(s->on);
}

static void free_segments(struct loaded *l)
{
    for (size_t i = 0; i < l->count; i++)
        free_trace(&l->segments[i]);
    free(l->segments);
    l->segments = NULL;
    l->count = 0;
}

/* Gives back the room that was not needed and drops what is shorter than a window. */
static void trim_segments(struct loaded *l, uint32_t window)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct dataset_trace *s = &l->segments[i];
        if (s->count < window) {
            free_trace(s);
            continue;
        }
        float *watts = realloc(s->watts, s->count * sizeof *watts);
        uint8_t *gap = realloc(s->gap, s->count);
        s->watts = watts ? watts : s->watts;
        s->gap = gap ? gap : s->gap;
        l->segments[kept++] = *s;
    }
    l->count = kept;
}

static int take_samples(struct resample *r, const struct dataset_file *file, struct loaded *l,
                        uint32_t *total)
{
    struct resample_sample sample;
    int rc = 0;
    while (rc == 0 && resample_next(r, &sample)) {
        if (sample.mark == RESAMPLE_RESTART || l->count == 0)
            rc = add_segment(l, file);
        if (rc == 0)
            rc = add_sample(&l->segments[l->count - 1], &sample);
        if (++*total > MAX_GRID)
            rc = -EFBIG;
    }
    return rc;
}

/* rc in *l: 0, -ENOMEM, or another errno when the file is to be passed over. */
static void load_file(const struct dataset_file *file, const struct dataset_options *options,
                      struct loaded *l)
{
    struct trace *trace;
    struct trace_reading reading;
    struct resample grid;
    uint32_t total = 0;
    char why[256];
    l->rc = trace_open(file->path, TRACE_AUTO, NULL, &trace, why, sizeof why);
    if (l->rc < 0)
        return;
    resample_init(&grid, options->period_ms,
                  options->period_ms > DATASET_MAX_GAP_MS ? options->period_ms
                                                          : DATASET_MAX_GAP_MS);
    for (;;) {
        int rc = trace_next(trace, &reading);
        if (rc == -EBADMSG)
            continue;
        if (rc <= 0) {
            l->rc = rc;
            break;
        }
        (void)resample_push(&grid, reading.t_ms, reading.watts); /* counts what it drops */
        l->rc = take_samples(&grid, file, l, &total);
        if (l->rc < 0)
            break;
    }
    l->bad = trace_statistics(trace)->bad;
    l->backward = grid.backward;
    trace_close(trace);
    if (l->rc < 0)
        free_segments(l);
    else
        trim_segments(l, options->window);
}

/* --- all files, on several threads --- */

struct job {
    const struct dataset_options *options;
    struct dataset_file **files;
    struct loaded *results; /* each file's in its own place: threads cannot change the order */
    size_t count;
    atomic_size_t next, done;
};

static void work(struct job *job, int report)
{
    for (;;) {
        size_t i = atomic_fetch_add(&job->next, 1);
        if (i >= job->count)
            return;
        load_file(job->files[i], job->options, &job->results[i]);
        size_t done = atomic_fetch_add(&job->done, 1) + 1;
        if (report && job->options->progress && done < job->count)
            job->options->progress(job->options->context, done, job->count);
    }
}

static void *work_thread(void *job)
{
    work(job, 0);
    return NULL;
}

static void load_files(struct job *job)
{
    pthread_t threads[MAX_THREADS];
    size_t started = 0, wanted = job->options->threads;
    if (wanted == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        wanted = processors > 0 ? (size_t)processors : 1;
    }
    wanted = wanted > MAX_THREADS ? MAX_THREADS : wanted;
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, work_thread, job) == 0)
        started++;
    work(job, 1);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (job->options->progress)
        job->options->progress(job->options->context, job->count, job->count);
}

/* --- windows --- */

/* counts [count + 1]: how many of the first i samples are active, or gaps. */
struct prefix {
    uint32_t *active, *gaps;
    size_t room;
};

static int fill_prefix(struct prefix *p, const struct dataset_trace *s, float min_activity_w)
{
    if (p->room < (size_t)s->count + 1) {
        free(p->active);
        free(p->gaps);
        p->room = (size_t)s->count + 1;
        p->active = malloc(p->room * sizeof *p->active);
        p->gaps = malloc(p->room * sizeof *p->gaps);
        if (p->active == NULL || p->gaps == NULL) {
            p->room = 0;
            return -ENOMEM;
        }
    }
    p->active[0] = p->gaps[0] = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        p->active[i + 1] = p->active[i] + (!s->gap[i] && s->watts[i] >= min_activity_w);
        p->gaps[i + 1] = p->gaps[i] + s->gap[i];
    }
    return 0;
}

static int add_window(struct dataset *d, size_t *room, struct dataset_window window)
{
    if (d->window_count == *room) {
        size_t more = *room ? 2 * *room : 4096;
        struct dataset_window *windows = realloc(d->windows, more * sizeof *windows);
        if (windows == NULL)
            return -ENOMEM;
        d->windows = windows;
        *room = more;
    }
    d->windows[d->window_count++] = window;
    return 0;
}

static int find_windows(struct dataset *d)
{
    const struct dataset_options *o = &d->options;
    const int draw = o->split == SPLIT_RANDOM && o->part != PART_ALL;
    struct prefix p = {0};
    size_t room = 0;
    uint32_t number = 0; /* of the window in its file, which may have several traces */
    int rc = 0;
    for (size_t t = 0; rc == 0 && t < d->trace_count; t++) {
        const struct dataset_trace *s = &d->traces[t];
        rc = fill_prefix(&p, s, o->min_activity_w);
        if (t == 0 || strcmp(s->path, d->traces[t - 1].path) != 0)
            number = 0;
        for (uint64_t start = 0; rc == 0 && start + o->window <= s->count;
             start += o->stride, number++) {
            uint32_t active = p.active[start + o->window] - p.active[start];
            uint32_t gaps = p.gaps[start + o->window] - p.gaps[start];
            if (active < o->min_active_samples || (float)gaps > o->max_gap_share * (float)o->window)
                continue;
            if (draw && dataset_files_window_part(s->path, number, o->split_seed) != o->part)
                continue;
            rc = add_window(d, &room,
                            (struct dataset_window){
                                .trace = (uint32_t)t, .start = (uint32_t)start, .label = s->label});
        }
    }
    free(p.active);
    free(p.gaps);
    return rc;
}

/* --- loading --- */

static int check_options(const struct dataset_options *o, char *why, size_t why_size)
{
    const char *wrong = NULL;
    if (o->window < 1 || o->window > MAX_WINDOW)
        wrong = "window: expected 1 to 16384 samples";
    else if (o->period_ms < 1)
        wrong = "period: expected at least 1 ms";
    else if (o->stride < 1)
        wrong = "stride: expected at least 1 sample";
    else if (!isfinite(o->min_activity_w) || !(o->max_gap_share >= 0 && o->max_gap_share <= 1))
        wrong = "activity, gap share: expected a number, 0 to 1";
    if (wrong)
        snprintf(why, why_size, "%s", wrong);
    return wrong ? -EINVAL : 0;
}

/* Moves what the files gave into the dataset, in the order of the files. */
static int collect(struct dataset *d, struct job *job)
{
    size_t traces = 0;
    for (size_t i = 0; i < job->count; i++) {
        if (job->results[i].rc == -ENOMEM)
            return -ENOMEM;
        traces += job->results[i].count;
    }
    d->traces = calloc(traces + 1, sizeof *d->traces);
    if (d->traces == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < job->count; i++) {
        struct loaded *l = &job->results[i];
        for (size_t k = 0; k < l->count; k++)
            d->traces[d->trace_count++] = l->segments[k];
        l->count = 0;
        d->files += l->rc == 0;
        d->skipped_files += l->rc < 0;
        d->bad_lines += l->bad;
        d->backward_lines += l->backward;
    }
    return 0;
}

/* The files of the part, in order. */
static int choose_files(struct dataset *d, struct dataset_folder *f, struct job *job)
{
    const struct dataset_options *o = &d->options;
    job->files = calloc(f->count + 1, sizeof *job->files);
    job->results = calloc(f->count + 1, sizeof *job->results);
    if (job->files == NULL || job->results == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < f->count; i++) {
        struct dataset_file *file = &f->files[i];
        d->ambiguous_files += (size_t)file->ambiguous;
        if (!file->ambiguous && (o->split == SPLIT_NONE || o->split == SPLIT_RANDOM ||
                                 o->part == PART_ALL || file->part == o->part))
            job->files[job->count++] = file;
    }
    return 0;
}

/* Every trace of every class, however short, and then what is mixed from them. */
static int load_mixed(const char *dir, const struct dataset_options *options, struct dataset **out,
                      char *why, size_t why_size)
{
    struct dataset_options plain = *options;
    struct dataset *raw;
    int rc;
    plain.mix[0] = '\0';
    plain.window = plain.stride = 64;
    plain.min_traces = 0;
    plain.label_count = 0;
    plain.without = NULL;
    rc = dataset_load(dir, &plain, &raw, why, why_size);
    return rc < 0 ? rc : mix_dataset(raw, options, out, why, why_size);
}

int dataset_load(const char *dir, const struct dataset_options *options, struct dataset **out,
                 char *why, size_t why_size)
{
    if (options->mix[0])
        return load_mixed(dir, options, out, why, why_size);
    struct dataset_folder folder = {0};
    struct job job = {.options = options};
    struct dataset *d = NULL;
    *out = NULL;
    int rc = check_options(options, why, why_size);
    if (rc == 0)
        rc = dataset_files_scan(dir, &folder, why, why_size);
    if (rc < 0)
        return rc;
    rc = -ENOMEM;
    d = calloc(1, sizeof *d);
    if (d == NULL)
        goto done;
    d->options = *options;
    rc = dataset_files_split(&folder, options->split, options->split_seed);
    if (rc == 0)
        rc = choose_files(d, &folder, &job);
    if (rc < 0)
        goto done;
    load_files(&job);
    rc = collect(d, &job);
    if (rc == 0)
        rc = find_windows(d);
    if (rc == 0)
        rc = dataset_classes_map(d, &folder, why, why_size);
    d->options.labels = NULL;
    d->options.without = NULL;
    if (rc == 0 && job.count > 0 && d->files == 0) {
        rc = -EBADMSG;
        snprintf(why, why_size, "%s: none of %zu files is a trace", dir, job.count);
    }
done:
    if (rc == -ENOMEM)
        snprintf(why, why_size, "%s: out of memory", dir);
    for (size_t i = 0; job.results && i < job.count; i++)
        free_segments(&job.results[i]);
    free(job.results);
    free(job.files);
    dataset_files_free(&folder);
    if (rc < 0)
        dataset_free(d);
    else
        *out = d;
    return rc;
}

void dataset_free(struct dataset *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->trace_count; i++)
        free_trace(&d->traces[i]);
    free(d->traces);
    free(d->windows);
    free(d->unknown);
    free(d->labels);
    free(d->unknown_labels);
    free(d->without);
    mix_free(d->mix);
    free(d);
}

void dataset_copy(const struct dataset *d, const struct dataset_window *w, int shift, float *out)
{
    const struct dataset_trace *s = &d->traces[w->trace];
    int64_t last = (int64_t)s->count - d->options.window, start = (int64_t)w->start + shift;
    start = start < 0 ? 0 : start > last ? last : start;
    out[0] = s->watts[start > 0 ? start - 1 : 0];
    memcpy(out + 1, s->watts + start, d->options.window * sizeof *out);
}
