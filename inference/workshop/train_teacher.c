/* train_teacher.c - models that a net is trained towards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/train.h"
#include "inference/workshop/train_command.h"

#define MAX_TEACHERS 8u

struct train_teachers {
    uint32_t count, window, class_count;
    struct {
        struct net *net;
        struct model_channel channels[MODEL_MAX_CHANNELS];
    } of[MAX_TEACHERS];
};

struct train_teachers_work {
    uint32_t count;
    struct net_work *works[MAX_TEACHERS];
    float *logits; /* [class_count] */
};

static int same_labels(const struct model *a, const struct model *b)
{
    if (a->class_count != b->class_count)
        return 0;
    for (uint32_t c = 0; c < a->class_count; c++)
        if (strncmp(a->labels[c], b->labels[c], MODEL_LABEL_BYTES) != 0)
            return 0;
    return 1;
}

/* NULL, or why m cannot teach the student. */
static const char *misfit(const struct model *m, const struct model *student,
                          const struct dataset *data)
{
    struct dataset_options o;

    if (m->dtype != MODEL_FP32)
        return "a teacher is an FP32 model";
    if (m->window != data->options.window || m->period_ms != data->options.period_ms)
        return "its window or sample period is not the student's";
    if (m->head != student->head)
        return "its head (softmax or sigmoid) is not the student's";
    if (!same_labels(m, student))
        return "its labels are not the student's";
    train_command_options(m, &o);
    if (data->options.split != SPLIT_NONE &&
        (o.split != data->options.split || o.split_seed != data->options.split_seed))
        return "it was trained on another split, so it may know the student's test part; expected "
               "the same --split and --split-seed";
    return NULL;
}

static int load(struct train_teachers *t, const char *path, const struct model *student,
                const struct dataset *data, char *why, size_t why_size)
{
    struct model *m = NULL;
    const char *reason;
    int rc = model_decode_file(path, &m, why, why_size);

    if (rc)
        return rc;
    reason = misfit(m, student, data);
    if (reason) {
        (void)snprintf(why, why_size, "teacher %s: %s", path, reason);
        rc = -EINVAL;
    } else {
        memcpy(t->of[t->count].channels, m->channels, sizeof(m->channels));
        rc = convert_from_model(m, &t->of[t->count].net, why, why_size);
    }
    if (!rc)
        t->count++;
    model_free(m);
    return rc;
}

int train_teachers_load(const char *files, const struct model *student, const struct dataset *data,
                        struct train_teachers **out, char *why, size_t why_size)
{
    struct train_teachers *t = calloc(1, sizeof(*t));
    char *list = strdup(files), *rest = list;
    int rc = t && list ? 0 : -ENOMEM;

    *out = NULL;
    while (!rc && rest) {
        char *path = strsep(&rest, ",");
        if (t->count == MAX_TEACHERS || !*path) {
            (void)snprintf(why, why_size,
                           "--teacher: expected one to %u files, separated by commas",
                           MAX_TEACHERS);
            rc = -EINVAL;
        } else {
            rc = load(t, path, student, data, why, why_size);
        }
    }
    free(list);
    if (rc) {
        train_teachers_free(t);
        return rc;
    }
    t->window = data->options.window;
    t->class_count = student->class_count;
    *out = t;
    return 0;
}

void train_teachers_free(struct train_teachers *t)
{
    for (uint32_t k = 0; t && k < t->count; k++)
        net_free(t->of[k].net);
    free(t);
}

uint32_t train_teachers_count(const struct train_teachers *t)
{
    return t ? t->count : 0;
}

const struct net *train_teachers_net(const struct train_teachers *t, uint32_t k)
{
    return t->of[k].net;
}

int train_teachers_work_create(const struct train_teachers *t, struct train_teachers_work **out)
{
    struct train_teachers_work *w = calloc(1, sizeof(*w));
    int rc = -ENOMEM;

    *out = NULL;
    if (!w)
        return -ENOMEM;
    w->count = t->count;
    w->logits = malloc(t->class_count * sizeof(float));
    if (w->logits)
        rc = 0;
    for (uint32_t k = 0; k < t->count && !rc; k++)
        rc = net_work_create(t->of[k].net, TRAIN_SHARD, &w->works[k]);
    if (rc)
        train_teachers_work_free(w);
    else
        *out = w;
    return rc;
}

void train_teachers_work_free(struct train_teachers_work *w)
{
    if (!w)
        return;
    for (uint32_t k = 0; k < w->count; k++)
        net_work_free(w->works[k]);
    free(w->logits);
    free(w);
}

void train_teachers_see(const struct train_teachers *t, struct train_teachers_work *w, uint32_t i,
                        const struct train_window *window)
{
    for (uint32_t k = 0; k < t->count; k++) {
        const struct net *net = t->of[k].net;
        train_window_features(window, net->window, t->of[k].channels, net->channels, 1,
                              net_work_input(w->works[k]) +
                                  (size_t)i * net->window * net->channels);
    }
}

void train_teachers_say(const struct train_teachers *t, struct train_teachers_work *w, uint32_t n,
                        float temperature, float *out)
{
    const struct net_mode deployed = {0};
    const uint32_t classes = t->class_count;

    memset(out, 0, (size_t)n * classes * sizeof(float));
    for (uint32_t k = 0; k < t->count; k++) {
        const struct net *net = t->of[k].net;
        const float *logits = net_forward(net, w->works[k], n, &deployed);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t c = 0; c < classes; c++)
                w->logits[c] = logits[(size_t)i * classes + c] / temperature;
            net_probabilities(net->head, classes, w->logits, w->logits);
            for (uint32_t c = 0; c < classes; c++)
                out[(size_t)i * classes + c] += w->logits[c] / (float)t->count;
        }
    }
}
