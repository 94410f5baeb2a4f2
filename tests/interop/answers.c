/* answers.c - what our own code computes for a model, for the scripts beside this file.
 *
 *   answers MODEL logits X Y          the FP32 network on any inputs
 *   answers MODEL probabilities X Y   the same
 *   answers MODEL data DIR N X Y      N windows spread over the traces in DIR; fewer where there
 * are fewer answers MODEL made-up N X Y       N windows of made-up appliances
 *
 * X: float32 inputs [windows][channels][window], as the ONNX file takes them; read, or written. Y:
 * written, float32 probabilities or logits [windows][classes]. INT8 goes through the engine. Prints
 * "windows channels window classes". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/convert.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/runner.h"
#include "workshop/lib_synthetic.h"

enum { SHARD = 16 };

static void transpose(const float *from, size_t rows, size_t columns, float *to)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            to[c * rows + r] = from[r * columns + c];
}

/* X to Y through net_forward. */
static int run_inputs(const struct model *m, int as_logits, const char *x_path, const char *y_path,
                      size_t *count)
{
    const struct net_mode deployed = {0};
    const size_t per_window = (size_t)m->channel_count * m->window;
    struct net *net = NULL;
    struct net_work *work = NULL;
    void *x = NULL;
    float *y = NULL;
    size_t size = 0;
    char why[256] = "";
    int rc = convert_from_model(m, &net, why, sizeof(why));

    if (!rc)
        rc = net_work_create(net, SHARD, &work);
    if (!rc)
        rc = cli_read_file(x_path, 1u << 30, &x, &size);
    if (rc)
        goto out;
    *count = size / sizeof(float) / per_window;
    y = malloc((*count * m->class_count + 1) * sizeof(float));
    if (!y) {
        rc = -ENOMEM;
        goto out;
    }
    for (size_t done = 0; done < *count; done += SHARD) {
        uint32_t n = *count - done < SHARD ? (uint32_t)(*count - done) : SHARD;
        for (size_t i = 0; i < n; i++)
            transpose((const float *)x + (done + i) * per_window, m->channel_count, m->window,
                      net_work_input(work) + i * per_window);
        const float *logits = net_forward(net, work, n, &deployed);
        for (size_t i = 0; i < n; i++) {
            const float *from = logits + i * m->class_count;
            float *to = y + (done + i) * m->class_count;
            if (as_logits)
                memcpy(to, from, m->class_count * sizeof(float));
            else
                net_probabilities(m->head, m->class_count, from, to);
        }
    }
    rc = cli_write_file(y_path, y, *count * m->class_count * sizeof(float));
out:
    if (why[0])
        fprintf(stderr, "answers: %s\n", why);
    free(x);
    free(y);
    net_work_free(work);
    net_free(net);
    return rc;
}

/* Windows of d to X, and through the runner to Y. */
static int run_windows(const struct model *m, const struct dataset *d, const char *x_path,
                       const char *y_path, size_t *count)
{
    const size_t per_window = (size_t)m->channel_count * m->window;
    struct runner *runner = NULL;
    float *watts, *features, *x, *y;
    int rc;

    if (*count > d->window_count)
        *count = d->window_count;
    watts = malloc((m->window + 1u) * sizeof(float));
    features = malloc(per_window * sizeof(float));
    x = malloc((*count * per_window + 1) * sizeof(float));
    y = malloc((*count * m->class_count + 1) * sizeof(float));
    rc = watts && features && x && y ? runner_create(m, &runner, NULL, 0) : -ENOMEM;
    for (size_t i = 0; !rc && i < *count; i++) {
        dataset_copy(d, &d->windows[i * d->window_count / *count], 0, watts);
        net_features(m->channels, m->channel_count, m->window, watts, features);
        transpose(features, m->window, m->channel_count, x + i * per_window);
        runner_windows(runner, watts, 1, y + i * m->class_count);
    }
    if (!rc)
        rc = cli_write_file(x_path, x, *count * per_window * sizeof(float));
    if (!rc)
        rc = cli_write_file(y_path, y, *count * m->class_count * sizeof(float));
    runner_free(runner);
    free(watts);
    free(features);
    free(x);
    free(y);
    return rc;
}

static int run_data(const struct model *m, const char *dir, const char *x_path, const char *y_path,
                    size_t *count)
{
    struct dataset_options options;
    struct dataset *d;
    char why[256] = "";
    int rc;

    dataset_defaults(&options);
    options.window = m->window;
    options.period_ms = m->period_ms;
    options.min_activity_w = m->min_activity_w;
    options.min_traces = 0;
    options.stride = 16;
    rc = dataset_load(dir, &options, &d, why, sizeof(why));
    if (rc) {
        fprintf(stderr, "answers: %s: %s\n", dir, why);
        return rc;
    }
    rc = run_windows(m, d, x_path, y_path, count);
    dataset_free(d);
    return rc;
}

static int run_made_up(const struct model *m, const char *x_path, const char *y_path, size_t *count)
{
    const uint32_t stride = 7, length = m->window + stride * (uint32_t)(*count / 6);
    struct dataset *d = synthetic_dataset(6, 1, length, m->window, stride, 1);
    int rc = run_windows(m, d, x_path, y_path, count);

    synthetic_free(d);
    return rc;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[2] : "";
    struct model *m = NULL;
    char why[256] = "";
    size_t count = 0;
    int rc = -EINVAL;

    if (argc < 5 || model_decode_file(argv[1], &m, why, sizeof(why))) {
        fprintf(stderr, "answers: %s\n", why[0] ? why : "see the head of answers.c");
        return 1;
    }
    if ((!strcmp(mode, "logits") || !strcmp(mode, "probabilities")) && argc == 5) {
        rc = run_inputs(m, mode[0] == 'l', argv[3], argv[4], &count);
    } else if (!strcmp(mode, "data") && argc == 7) {
        count = strtoul(argv[4], NULL, 10);
        rc = run_data(m, argv[3], argv[5], argv[6], &count);
    } else if (!strcmp(mode, "made-up") && argc == 6) {
        count = strtoul(argv[3], NULL, 10);
        rc = run_made_up(m, argv[4], argv[5], &count);
    }
    if (rc)
        fprintf(stderr, "answers: %s\n", strerror(-rc));
    else
        printf("%zu %u %u %u\n", count, m->channel_count, m->window, m->class_count);
    model_free(m);
    return rc != 0;
}
