/* report.h - the result of `compare` (SPEC.md 7.20) as files for people and for other programs.
 *
 * Everything comes out of the one result object. Names in it come from files of others: each
 * writer escapes them for its format.
 */
#ifndef WORKSHOP_REPORT_H
#define WORKSHOP_REPORT_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdio.h>

/* Writes result.json, models.csv, sweep.csv, classes.csv, report.md and report.html into the
 * folder, each whole or not at all. 0 or negative errno; why names the file. */
int report_write(const cJSON *result, const char *folder, char *why, size_t why_size);

/* The article's two tables with ours beside them, for a terminal. */
void report_tables(const cJSON *result, FILE *to);

/* --- Between report_*.c --- */

#define REPORT_COLUMNS 11
#define REPORT_CELL 64

enum report_table { REPORT_PRUNING = 0, REPORT_COMBINED = 1 };

/* A table: its rows in the result, its columns' names, and a row's cells (empty where unknown). */
struct report_grid {
    const cJSON *rows;
    const char *title;
    const char *columns[REPORT_COLUMNS];
    int count;
};
void report_grid(const cJSON *result, enum report_table table, struct report_grid *grid);
void report_cells(const cJSON *row, enum report_table table,
                  char cells[REPORT_COLUMNS][REPORT_CELL]);

/* What a model is called: "Taylor, global, ratio 0.50, FP32". */
void report_name(const cJSON *model, char *out, size_t size);

double report_number(const cJSON *object, const char *key);      /* NAN: none */
double report_seconds(const cJSON *object);                      /* "seconds"; 0: none */
const char *report_string(const cJSON *object, const char *key); /* "": none */
const cJSON *report_item(const cJSON *object, const char *key);

/* The sentences above the tables: what was chosen, the smallest models within 0.01 and 0.03. */
void report_findings(const cJSON *result, void (*line)(FILE *, const char *), FILE *to);

void report_csv_models(const cJSON *result, FILE *to);
void report_csv_sweep(const cJSON *result, FILE *to);
void report_csv_classes(const cJSON *result, FILE *to);
void report_markdown(const cJSON *result, FILE *to);
void report_html(const cJSON *result, FILE *to);
void report_html_text(FILE *to, const char *text); /* escaped, for content and attributes */

/* Charts as inline SVG, coloured by the page's style. */
enum report_x { REPORT_SIZE = 0, REPORT_LATENCY = 1 };
void report_svg_scatter(const cJSON *result, enum report_x x, FILE *to);
void report_svg_losses(const cJSON *result, int tuned, FILE *to);
void report_svg_confusion(const cJSON *confusion, FILE *to);

#endif
