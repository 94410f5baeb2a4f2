/* train_checkpoint.c - an interrupted training goes on where it was.
 *
 * Random numbers are functions of seed, step and window (net_random.h), so the state is the numbers
 * that training changes and nothing else. The file belongs to the machine that wrote it: native
 * numbers, a check sum over all. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/model_format.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/mix.h"
#include "inference/workshop/train_state.h"

#define MAGIC 0x31504b434d4c494eu /* "NILMCKP1" where the least byte comes first */

struct header {
    uint64_t magic, identity;
    uint64_t params, stats, has_average;
    uint64_t step, optim_step, epoch, best_epoch;
    double best_f1, loss;
};

/* --- identity --- */

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *p = data;

    for (; size >= 4; size -= 4, p += 4) { /* FNV-1a, by words: traces are long */
        uint32_t word;
        memcpy(&word, p, sizeof(word));
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    for (; size > 0; size--)
        hash = (hash ^ *p++) * 0x100000001b3u;
    return hash;
}

static uint64_t mix_number(uint64_t hash, double number)
{
    return mix(hash, &number, sizeof(number));
}

static uint64_t mix_net(uint64_t hash, const struct net *net)
{
    hash = mix_number(hash, net->head);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        const uint32_t shape[] = {l->op,          (uint32_t)l->relu, (uint32_t)l->norm,
                                  l->in_channels, l->out_channels,   l->taps,
                                  l->pool,        l->in_columns};
        hash = mix(hash, shape, sizeof(shape));
    }
    hash = mix(hash, net->params, net->param_count * sizeof(float));
    return mix(hash, net->stats, net->stat_count * sizeof(float));
}

static uint64_t mix_data(uint64_t hash, const struct dataset *d)
{
    hash = mix_number(hash, d ? (double)d->window_count : -1.0);
    if (!d)
        return hash;
    hash = mix_number(hash, (double)d->options.min_activity_w);
    if (d->mix) {
        hash = mix_number(hash, d->options.lag);
        hash = mix(hash, d->options.mix, strlen(d->options.mix));
        for (size_t i = 0; i < mix_raw(d->mix)->trace_count; i++)
            hash = mix(hash, mix_raw(d->mix)->traces[i].watts,
                       mix_raw(d->mix)->traces[i].count * sizeof(float));
    }
    for (size_t i = 0; i < d->window_count; i++) {
        const uint32_t w[] = {d->windows[i].trace, d->windows[i].start,
                              d->mix ? d->windows[i].on : d->windows[i].label};
        hash = mix(hash, w, sizeof(w));
    }
    for (size_t i = 0; i < d->trace_count; i++)
        hash = mix(hash, d->traces[i].watts, d->traces[i].count * sizeof(float));
    return hash;
}

uint64_t train_checkpoint_identity(const struct net *start, const struct model_channel *channels,
                                   const struct dataset *train, const struct dataset *valid,
                                   const struct train_options *o)
{
    const double numbers[] = {
        o->epochs,
        o->epoch_windows,
        o->batch,
        (double)(o->seed >> 32),
        (double)(o->seed & 0xffffffffu),
        (double)o->rate,
        (double)o->warm,
        (double)o->decay,
        (double)o->dropout,
        (double)o->smoothing,
        (double)o->input_dropout,
        (double)o->average,
        (double)o->class_power,
        (double)o->class_weight,
        (double)o->teacher_weight,
        (double)o->teacher_temperature,
        o->patience,
        (double)o->mix,
        (double)o->onset,
        o->onset_samples,
        o->shift,
        (double)o->prefix,
        (double)o->others,
        (double)o->gain,
        (double)o->noise,
        (double)o->level,
        (double)o->level_w,
        (double)o->drop,
        o->exact,
        o->int8 != NULL,
    };
    uint64_t hash = mix_net(0xcbf29ce484222325u, start);

    hash = mix(hash, numbers, sizeof(numbers));
    for (uint32_t c = 0; c < start->channels; c++) {
        hash = mix_number(hash, channels[c].feature);
        hash = mix_number(hash, (double)channels[c].full);
    }
    for (uint32_t k = 0; k < train_teachers_count(o->teachers); k++)
        hash = mix_net(hash, train_teachers_net(o->teachers, k));
    return mix_data(mix_data(hash, train), valid);
}

/* --- the file --- */

enum { MAX_PARTS = 8 };

struct part {
    float *values;
    size_t count;
};

static void add_net(struct part *parts, int *n, const struct net *net)
{
    parts[(*n)++] = (struct part){net->params, net->param_count};
    parts[(*n)++] = (struct part){net->stats, net->stat_count};
}

/* The arrays of t in the order of the file, after the header. Returns how many. */
static int list_parts(const struct train_state *t, struct part parts[MAX_PARTS])
{
    int n = 0;

    add_net(parts, &n, t->net);
    add_net(parts, &n, t->best);
    if (t->average)
        add_net(parts, &n, t->average);
    parts[n++] = (struct part){t->optim->first, t->net->param_count};
    parts[n++] = (struct part){t->optim->second, t->net->param_count};
    return n;
}

static size_t file_size(const struct train_state *t)
{
    struct part parts[MAX_PARTS];
    size_t size = sizeof(struct header) + sizeof(uint32_t);

    for (int i = list_parts(t, parts); i-- > 0;)
        size += parts[i].count * sizeof(float);
    return size;
}

int train_checkpoint_write(const char *path, const struct train_state *t, uint64_t identity,
                           char *why, size_t why_size)
{
    const struct header h = {.magic = MAGIC,
                             .identity = identity,
                             .params = t->net->param_count,
                             .stats = t->net->stat_count,
                             .has_average = t->average != NULL,
                             .step = t->step,
                             .optim_step = t->optim->step,
                             .epoch = t->epoch,
                             .best_epoch = t->result.best_epoch,
                             .best_f1 = t->result.best_f1,
                             .loss = t->result.loss};
    const size_t size = file_size(t);
    struct part parts[MAX_PARTS];
    const int count = list_parts(t, parts);
    unsigned char *file = malloc(size), *at = file;
    uint32_t sum;
    int rc = -ENOMEM;

    if (file) {
        memcpy(at, &h, sizeof(h));
        at += sizeof(h);
        for (int i = 0; i < count; at += parts[i].count * sizeof(float), i++)
            memcpy(at, parts[i].values, parts[i].count * sizeof(float));
        sum = model_format_crc32(file, size - sizeof(sum));
        memcpy(at, &sum, sizeof(sum));
        rc = cli_write_file(path, file, size);
    }
    if (rc && why && why_size)
        (void)snprintf(why, why_size, "checkpoint %s: %s", path, strerror(-rc));
    free(file);
    return rc;
}

/* NULL, or what is wrong with the file, and then *rc. */
static const char *check(const unsigned char *file, size_t size, const struct train_state *t,
                         uint64_t identity, struct header *h, int *rc)
{
    uint32_t sum;

    *rc = -EBADMSG;
    if (size < sizeof(*h) + sizeof(sum))
        return "shorter than a checkpoint's header";
    memcpy(h, file, sizeof(*h));
    memcpy(&sum, file + size - sizeof(sum), sizeof(sum));
    if (h->magic != MAGIC)
        return "not a checkpoint, or of another machine or version";
    if (sum != model_format_crc32(file, size - sizeof(sum)))
        return "damaged: its check sum is wrong";
    *rc = -EINVAL;
    if (h->identity != identity || h->params != t->net->param_count ||
        h->stats != t->net->stat_count || h->has_average != (t->average != NULL) ||
        size != file_size(t) || h->epoch > UINT32_MAX || h->best_epoch > h->epoch)
        return "of another training: expected the same options, data, network, start and teachers";
    *rc = 0;
    return NULL;
}

int train_checkpoint_read(const char *path, struct train_state *t, uint64_t identity, char *why,
                          size_t why_size)
{
    struct header h;
    struct part parts[MAX_PARTS];
    const int count = list_parts(t, parts);
    const char *reason;
    void *data = NULL;
    size_t size = 0;
    int rc = cli_read_file(path, 2 * file_size(t), &data, &size);

    reason = rc ? strerror(-rc) : check(data, size, t, identity, &h, &rc);
    if (reason) {
        (void)snprintf(why, why_size, "checkpoint %s: %s", path, reason);
        free(data);
        return rc;
    }
    const unsigned char *at = (const unsigned char *)data + sizeof(h);
    for (int i = 0; i < count; at += parts[i].count * sizeof(float), i++)
        memcpy(parts[i].values, at, parts[i].count * sizeof(float));
    t->step = h.step;
    t->optim->step = h.optim_step;
    t->epoch = (uint32_t)h.epoch;
    t->result.best_epoch = (uint32_t)h.best_epoch;
    t->result.best_f1 = h.best_f1;
    t->result.loss = h.loss;
    free(data);
    return 0;
}
