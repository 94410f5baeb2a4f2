/* train_command.c - what the commands train, finetune and quantize share. */
#include "inference/workshop/train_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"

const char *const train_splits[] = {"none",   "day",        "device", "device-one",
                                    "random", "device-day", NULL};

static int load_part(const char *dir, const struct dataset_options *o, enum dataset_part part,
                     int quiet, struct dataset **out, char *why, size_t why_size)
{
    struct dataset_options mine = *o;
    struct cli_progress progress = {.what = "loading"};

    mine.part = part;
    if (!quiet) {
        mine.progress = cli_progress_files;
        mine.context = &progress;
    }
    return dataset_load(dir, &mine, out, why, why_size);
}

int train_command_load(const char *dir, const struct dataset_options *o, unsigned parts, int quiet,
                       struct train_data *out, char *why, size_t why_size)
{
    struct dataset_options mine = *o;
    int rc = 0;

    memset(out, 0, sizeof(*out));
    if (parts & 1u << PART_TRAIN) {
        rc = load_part(dir, &mine, PART_TRAIN, quiet, &out->train, why, why_size);
        if (!rc && !mine.label_count) {
            mine.labels = (const char(*)[DATASET_LABEL_BYTES])out->train->labels;
            mine.label_count = out->train->class_count;
        }
    }
    if (o->split == SPLIT_NONE)
        return rc;
    if (!rc && parts & 1u << PART_VALID)
        rc = load_part(dir, &mine, PART_VALID, quiet, &out->valid, why, why_size);
    if (!rc && parts & 1u << PART_TEST)
        rc = load_part(dir, &mine, PART_TEST, quiet, &out->test, why, why_size);
    if (rc)
        train_command_unload(out);
    return rc;
}

void train_command_unload(struct train_data *d)
{
    dataset_free(d->train);
    dataset_free(d->valid);
    dataset_free(d->test);
    memset(d, 0, sizeof(*d));
}

void train_command_options(const struct model *m, struct dataset_options *o)
{
    char text[64];

    dataset_defaults(o);
    o->window = m->window;
    o->period_ms = m->period_ms;
    o->min_activity_w = m->min_activity_w;
    o->labels = m->labels;
    o->label_count = m->class_count;
    o->lag = model_lag(m);
    if (model_meta(m, "aggregates", o->mix, sizeof(o->mix)))
        o->mix[0] = '\0';
    for (int i = 0; !model_meta(m, "split", text, sizeof(text)) && train_splits[i]; i++)
        if (!strcmp(text, train_splits[i]))
            o->split = (enum dataset_split)i;
    if (!model_meta(m, "split_seed", text, sizeof(text)))
        o->split_seed = strtoull(text, NULL, 10);
    if (!model_meta(m, "stride", text, sizeof(text)) && strtoul(text, NULL, 10) > 0)
        o->stride = (uint32_t)strtoul(text, NULL, 10);
}

int train_command_meta(char *meta, const char *key, const char *value)
{
    size_t key_length = strlen(key), used;

    for (char *line = meta; *line;) { /* the old line goes */
        char *end = strchr(line, '\n');
        char *next = end ? end + 1 : line + strlen(line);
        if (!strncmp(line, key, key_length) && line[key_length] == '=')
            memmove(line, next, strlen(next) + 1);
        else
            line = next;
    }
    used = strlen(meta);
    if (used + key_length + strlen(value) + 3 > TRAIN_META_BYTES)
        return -ENOSPC;
    char *at = meta + used + snprintf(meta + used, TRAIN_META_BYTES - used, "%s=", key);
    for (; *value; value++)
        *at++ = *value == '\n' || *value == '\r' ? ' ' : *value;
    *at++ = '\n';
    *at = '\0';
    return 0;
}

/* How many of the arguments from argv[i] on say how the command ran, not what comes out. */
static int passing(int i, int argc, char **argv)
{
    static const char *const flags[] = {"--resume", "--quiet", "--json"};
    static const char *const valued[] = {"--threads", "--checkpoint", "--checkpoint-every"};

    for (size_t k = 0; k < sizeof(flags) / sizeof(*flags); k++)
        if (!strcmp(argv[i], flags[k]))
            return 1;
    for (size_t k = 0; k < sizeof(valued) / sizeof(*valued); k++) {
        size_t length = strlen(valued[k]);
        if (!strncmp(argv[i], valued[k], length) && argv[i][length] == '=')
            return 1;
        if (!strcmp(argv[i], valued[k]))
            return i + 1 < argc ? 2 : 1;
    }
    return 0;
}

int train_command_meta_line(char *meta, const char *key, int argc, char **argv)
{
    char text[TRAIN_META_BYTES] = "nilm-model";
    size_t used = strlen(text);

    for (int i = 0, skip; i < argc; i++) {
        if ((skip = passing(i, argc, argv)) > 0) {
            i += skip - 1;
            continue;
        }
        const char *equals = argv[i][0] == '-' ? strchr(argv[i], '=') : NULL;
        const char *value = equals ? equals + 1 : argv[i];
        const char *slash = strrchr(value, '/'), *quote = strchr(value, ' ') ? "\"" : "";
        int named = (int)(value - argv[i]); /* of "--name=" */
        if (slash && slash[1] && !*quote)   /* a text with blanks is no path */
            value = slash + 1;
        if (!strncmp(argv[i], "--data=", 7) || (i && !strcmp(argv[i - 1], "--data"))) {
            value = "DIR";
            quote = "";
        }
        int n = snprintf(text + used, sizeof(text) - used, " %.*s%s%s%s", named, argv[i], quote,
                         value, quote);
        if (n < 0 || (size_t)n >= sizeof(text) - used)
            return -ENOSPC;
        used += (size_t)n;
    }
    return train_command_meta(meta, key, text);
}

int train_command_meta_thresholds(char *meta, const struct metrics *m)
{
    char text[MODEL_MAX_CLASSES * 6] = "";
    size_t used = 0;

    if (!m->classes[0].levels)
        return 0;
    for (uint32_t c = 0; c < m->class_count; c++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.3f", c ? "," : "",
                                 m->classes[c].threshold);
    return train_command_meta(meta, "thresholds", text);
}

int train_command_meta_data(char *meta, const struct dataset_options *o)
{
    char seed[32], stride[32];
    int rc = train_command_meta(meta, "split", train_splits[o->split]);

    (void)snprintf(seed, sizeof(seed), "%llu", (unsigned long long)o->split_seed);
    (void)snprintf(stride, sizeof(stride), "%u", o->stride);
    if (!rc)
        rc = train_command_meta(meta, "split_seed", seed);
    return rc ? rc : train_command_meta(meta, "stride", stride);
}

int train_command_meta_metrics(char *meta, const char *key, const struct metrics *m)
{
    char text[128];

    (void)snprintf(text, sizeof(text),
                   "windows %llu, accuracy %.4f, f1_macro %.4f, f1_weighted %.4f",
                   (unsigned long long)m->windows, m->accuracy, m->f1_macro, m->f1_weighted);
    return train_command_meta(meta, key, text);
}

void train_command_text(const char *part, const struct metrics *m)
{
    uint32_t present = 0;

    for (uint32_t c = 0; c < m->class_count; c++)
        present += m->classes[c].support > 0;
    printf("%-6s %7llu windows, %2u classes: accuracy %.4f, f1_macro %.4f, f1_weighted %.4f, bce "
           "%.4f\n",
           part, (unsigned long long)m->windows, present, m->accuracy, m->f1_macro, m->f1_weighted,
           m->bce);
}

cJSON *train_command_json(const struct metrics *m)
{
    cJSON *o = cJSON_CreateObject();

    if (o) {
        cJSON_AddNumberToObject(o, "windows", (double)m->windows);
        cJSON_AddNumberToObject(o, "accuracy", m->accuracy);
        cJSON_AddNumberToObject(o, "f1_macro", m->f1_macro);
        cJSON_AddNumberToObject(o, "f1_weighted", m->f1_weighted);
        cJSON_AddNumberToObject(o, "bce", m->bce);
    }
    return o;
}

void train_command_thresholds(const struct metrics *from, struct metrics *to)
{
    float thresholds[MODEL_MAX_CLASSES];

    for (uint32_t c = 0; c < from->class_count; c++)
        thresholds[c] = (float)from->classes[c].threshold;
    metrics_use_thresholds(to, thresholds);
}

int train_command_run(struct net *net, const struct model *m, const struct train_data *data,
                      const struct train_options *options, struct train_outcome *out, char *why,
                      size_t why_size)
{
    struct train_options mine = *options;
    struct train_teachers *teachers = NULL;
    int rc = 0;

    memset(out, 0, sizeof(*out));
    if (options->resume && !options->checkpoint) {
        (void)snprintf(why, why_size, "--resume: expected --checkpoint FILE too");
        return -EINVAL;
    }
    if (options->teacher)
        rc = train_teachers_load(options->teacher, m, data->train, &teachers, why, why_size);
    mine.teachers = teachers;
    if (!rc)
        rc = train_run(net, m->channels, data->train, data->valid, &mine, &out->result, why,
                       why_size);
    train_teachers_free(teachers);
    if (!rc)
        rc = convert_fold(net, &out->folded);
    if (!rc && data->valid)
        rc = train_evaluate(out->folded, m->channels, data->valid, options->threads, &out->valid);
    if (!rc && data->test)
        rc = train_evaluate(out->folded, m->channels, data->test, options->threads, &out->test);
    if (!rc && data->test && data->test->mix)
        train_command_thresholds(out->valid, out->test);
    if (rc) {
        if (rc == -ENOMEM && why && why_size)
            (void)snprintf(why, why_size, "out of memory");
        train_command_free(out);
    }
    return rc;
}

void train_command_free(struct train_outcome *o)
{
    net_free(o->folded);
    metrics_free(o->valid);
    metrics_free(o->test);
    memset(o, 0, sizeof(*o));
}

static cJSON *finish_json(const struct model *m, const struct train_outcome *o, size_t size)
{
    cJSON *j = cJSON_CreateObject();

    if (!j)
        return NULL;
    cJSON_AddNumberToObject(j, "size_bytes", (double)size);
    cJSON_AddNumberToObject(j, "parameters", (double)model_parameters(m));
    cJSON_AddNumberToObject(j, "macs", (double)model_macs(m));
    cJSON_AddNumberToObject(j, "classes", m->class_count);
    cJSON_AddNumberToObject(j, "best_epoch", o->result.best_epoch);
    cJSON_AddNumberToObject(j, "windows_per_second", o->result.windows_per_second);
    if (o->valid)
        cJSON_AddItemToObject(j, "valid", train_command_json(o->valid));
    if (o->test)
        cJSON_AddItemToObject(j, "test", train_command_json(o->test));
    return j;
}

int train_command_finish(struct model *m, const struct train_outcome *outcome, const char *path,
                         int json)
{
    char why[256] = "";
    size_t size = 0;
    int rc = convert_to_model(outcome->folded, m);

    if (!rc)
        rc = convert_write(m, path, &size, why, sizeof(why));
    if (rc)
        return cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc));
    if (json)
        return cli_print_json(finish_json(m, outcome, size));
    printf("%s: %llu parameters, %zu bytes, %u classes, best epoch %u, %.0f windows/s\n", path,
           (unsigned long long)model_parameters(m), size, m->class_count,
           outcome->result.best_epoch, outcome->result.windows_per_second);
    if (outcome->valid)
        train_command_text("valid", outcome->valid);
    if (outcome->test)
        train_command_text("test", outcome->test);
    return CLI_DONE;
}

int train_command_features(const char *text, float full, struct model *m)
{
    static const char *const names[] = {"linear", "log", "log-diff"}; /* enum model_feature - 1 */

    m->channel_count = 0;
    while (*text) {
        size_t length = strcspn(text, ":,");
        struct model_channel c = {.full = full};
        for (int f = 0; f < 3; f++)
            if (strlen(names[f]) == length && !strncmp(text, names[f], length))
                c.feature = (enum model_feature)(f + 1);
        text += length;
        if (*text == ':') {
            char *end;
            c.full = strtof(text + 1, &end);
            text = end;
        }
        if (!c.feature || !(c.full > 0.0f && c.full <= 1e7f) || (*text && *text != ',') ||
            m->channel_count == MODEL_MAX_CHANNELS)
            return -EINVAL;
        m->channels[m->channel_count++] = c;
        text += *text == ',';
    }
    return m->channel_count ? 0 : -EINVAL;
}
