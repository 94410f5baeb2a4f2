/* prune_report.c - see prune_report.h. */
#include "inference/workshop/prune_report.h"

#include <stdlib.h>

#include "inference/workshop/train_command.h"

cJSON *prune_report_json(const struct net *before, const struct net *after, size_t size)
{
    cJSON *j = cJSON_CreateObject(), *layers = j ? cJSON_AddArrayToObject(j, "layers") : NULL;

    cJSON_AddNumberToObject(j, "parameters_before", (double)before->param_count);
    cJSON_AddNumberToObject(j, "parameters", (double)after->param_count);
    cJSON_AddNumberToObject(j, "size_bytes", (double)size);
    for (uint32_t i = 0; layers && i < after->layer_count; i++) {
        cJSON *l = after->layers[i].weight_count ? cJSON_CreateObject() : NULL;
        cJSON_AddStringToObject(l, "name", after->layers[i].name);
        cJSON_AddNumberToObject(l, "before", before->layers[i].out_channels);
        cJSON_AddNumberToObject(l, "after", after->layers[i].out_channels);
        if (l)
            cJSON_AddItemToArray(layers, l);
    }
    return j;
}

void prune_report_text(const char *path, const struct net *before, const struct net *after,
                       size_t size)
{
    printf("%s: %zu parameters of %zu, %zu bytes\n", path, after->param_count, before->param_count,
           size);
    for (uint32_t i = 0; i < after->layer_count; i++)
        if (after->layers[i].weight_count)
            printf("  %-8s %4u of %4u channels\n", after->layers[i].name,
                   after->layers[i].out_channels, before->layers[i].out_channels);
}

cJSON *prune_report_probe_json(const struct prune_probe *p)
{
    cJSON *j = cJSON_CreateObject();

    cJSON_AddNumberToObject(j, "target", (double)p->target);
    cJSON_AddNumberToObject(j, "parameters", (double)p->parameters);
    cJSON_AddNumberToObject(j, "f1_macro", p->f1_macro);
    cJSON_AddNumberToObject(j, "bce", p->bce);
    cJSON_AddBoolToObject(j, "within", p->within);
    return j;
}

void prune_report_probe_text(FILE *to, const struct prune_probe *p)
{
    fprintf(to, "probe: %llu parameters, valid f1_macro %.4f, bce %.4f: %s\n",
            (unsigned long long)p->parameters, p->f1_macro, p->bce,
            p->within ? "within the drop" : "not within");
    fflush(to);
}

cJSON *prune_report_sensitivity_json(const struct net *net, const struct metrics *whole,
                                     const struct prune_sensitivity *rows, size_t count)
{
    cJSON *j = cJSON_CreateObject(), *list;

    if (!j)
        return NULL;
    cJSON_AddNumberToObject(j, "parameters", (double)net->param_count);
    cJSON_AddItemToObject(j, "valid", train_command_json(whole));
    list = cJSON_AddArrayToObject(j, "sensitivity");
    for (size_t k = 0; list && k < count; k++) {
        const struct prune_sensitivity *row = &rows[k];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "layer", net->layers[row->layer].name);
        cJSON_AddNumberToObject(o, "ratio", row->ratio);
        cJSON_AddNumberToObject(o, "channels", row->channels);
        cJSON_AddNumberToObject(o, "parameters", (double)row->parameters);
        cJSON_AddNumberToObject(o, "f1_macro", row->f1_macro);
        cJSON_AddNumberToObject(o, "accuracy", row->accuracy);
        cJSON_AddNumberToObject(o, "bce", row->bce);
        cJSON_AddNumberToObject(o, "cross_entropy", row->cross_entropy);
        if (o)
            cJSON_AddItemToArray(list, o);
    }
    return j;
}

/* One table for each figure: a line per layer, a column per ratio. */
static void sensitivity_table(const struct net *net, const char *title,
                              const struct prune_sensitivity *rows, size_t count, int bce)
{
    printf("\n%s\n%-10s", title, "removed");
    for (uint32_t k = 1; k <= PRUNE_SENSITIVITY_RATIOS; k++)
        printf(" %5u%%", 10 * k);
    for (size_t k = 0; k < count; k++) {
        if (k % PRUNE_SENSITIVITY_RATIOS == 0)
            printf("\n%-10s", net->layers[rows[k].layer].name);
        printf(" %6.4f", bce ? rows[k].bce : rows[k].f1_macro);
    }
    printf("\n");
}

void prune_report_sensitivity_text(const struct net *net, const struct metrics *whole,
                                   const struct prune_sensitivity *rows, size_t count)
{
    train_command_text("valid", whole);
    sensitivity_table(net, "Macro F1, validation part, one layer pruned, not fine-tuned", rows,
                      count, 0);
    sensitivity_table(net, "Binary cross-entropy of the same", rows, count, 1);
}

char *prune_report_sensitivity_csv(const struct net *net, const struct prune_sensitivity *rows,
                                   size_t count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    fprintf(f, "layer,ratio,channels,parameters,f1_macro,accuracy,bce,cross_entropy\n");
    for (size_t k = 0; k < count; k++)
        fprintf(f, "%s,%.1f,%u,%llu,%.6f,%.6f,%.6f,%.6f\n", net->layers[rows[k].layer].name,
                rows[k].ratio, rows[k].channels, (unsigned long long)rows[k].parameters,
                rows[k].f1_macro, rows[k].accuracy, rows[k].bce, rows[k].cross_entropy);
    int failed = ferror(f);
    if (fclose(f) || failed) {
        free(text);
        return NULL;
    }
    return text;
}
