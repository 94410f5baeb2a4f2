/* report.h - prints a report (agent/report.h) in its forms. Internal to report*.c. */
#ifndef AGENT_CTL_REPORT_H
#define AGENT_CTL_REPORT_H

#include <stdio.h>

#include <cjson/cJSON.h>

#include "agent/report.h"

cJSON *report_json(const struct report *r); /* NULL: out of memory */
void report_table(const struct report *r);
void report_csv(const struct report *r, FILE *out);
void report_html(const struct report *r, FILE *out);

#endif
