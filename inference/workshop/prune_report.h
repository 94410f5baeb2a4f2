/* prune_report.h - what `nilm-model prune` says: layers, probes, sensitivity. */
#ifndef WORKSHOP_PRUNE_REPORT_H
#define WORKSHOP_PRUNE_REPORT_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdio.h>

#include "inference/workshop/prune_tune.h"

/* Parameters and widths before and after. JSON: NULL when out of memory. */
cJSON *prune_report_json(const struct net *before, const struct net *after, size_t size);
void prune_report_text(const char *path, const struct net *before, const struct net *after,
                       size_t size);

cJSON *prune_report_probe_json(const struct prune_probe *p);
void prune_report_probe_text(FILE *to, const struct prune_probe *p);

/* rows [count] of net; whole: the validation part before pruning. CSV: a new text (free()), NULL:
 * out of memory. */
cJSON *prune_report_sensitivity_json(const struct net *net, const struct metrics *whole,
                                     const struct prune_sensitivity *rows, size_t count);
void prune_report_sensitivity_text(const struct net *net, const struct metrics *whole,
                                   const struct prune_sensitivity *rows, size_t count);
char *prune_report_sensitivity_csv(const struct net *net, const struct prune_sensitivity *rows,
                                   size_t count);

#endif
