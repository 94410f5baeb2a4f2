/* report_text.c - see report.h: tables, CSV, Markdown. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/report.h"

/* --- Reading the result --- */

const cJSON *report_item(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

double report_number(const cJSON *object, const char *key)
{
    const cJSON *item = report_item(object, key);

    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

const char *report_string(const cJSON *object, const char *key)
{
    const cJSON *item = report_item(object, key);

    return cJSON_IsString(item) ? item->valuestring : "";
}

double report_seconds(const cJSON *object)
{
    const double seconds = report_number(object, "seconds");

    return isfinite(seconds) ? seconds : 0.0;
}

/* --- Cells --- */

static const char *criterion_name(const char *criterion)
{
    static const char *const names[][2] = {
        {"l1", "L1"}, {"l2", "L2"}, {"random", "random"}, {"taylor", "Taylor"}};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strcmp(names[i][0], criterion))
            return names[i][1];
    return criterion;
}

void report_name(const cJSON *model, char *out, size_t size)
{
    const char *kind = report_string(model, "kind");
    const double ratio = report_number(model, "ratio"), share = report_number(model, "share");
    char cut[REPORT_CELL] = "";

    if (!strcmp(kind, "base") || !strcmp(kind, "base_int8")) {
        (void)snprintf(out, size, "%s", !strcmp(kind, "base") ? "base, FP32" : "base, INT8");
        return;
    }
    if (!strcmp(kind, "pruned_short") || !strcmp(kind, "candidate")) {
        if (isfinite(ratio))
            (void)snprintf(cut, sizeof(cut), "ratio %.2f", ratio);
        else if (isfinite(share))
            (void)snprintf(cut, sizeof(cut), "to %.0f %%", 100.0 * share);
        (void)snprintf(out, size, "%s %s, %s", criterion_name(report_string(model, "criterion")),
                       report_string(model, "scope"), cut);
        return;
    }
    if (!isfinite(share)) {
        (void)snprintf(out, size, "%s", report_string(model, "name"));
        return;
    }
    (void)snprintf(out, size, "pruned to %.0f %%, %s", 100.0 * share,
                   !strcmp(kind, "pruned")        ? "FP32"
                   : !strcmp(kind, "pruned_int8") ? "INT8"
                                                  : "INT8 tuned");
}

static void cell(char *out, const char *format, double value) __attribute__((format(printf, 2, 0)));

static void cell(char *out, const char *format, double value)
{
    if (isfinite(value))
        (void)snprintf(out, REPORT_CELL, format, value);
    else
        out[0] = '\0';
}

void report_grid(const cJSON *result, enum report_table table, struct report_grid *grid)
{
    static const struct report_grid grids[] = {
        {.title = "Pruning",
         .columns = {"pruning variant", "BCE loss", "F1", "size MB", "inference µs",
                     "BCE before tuning", "F1 before tuning", "article: F1", "article: size MB"},
         .count = 9},
        {.title = "Pruning and quantization together",
         .columns = {"model", "BCE loss", "F1", "size MB", "smaller", "inference µs", "faster",
                     "article: F1", "article: size MB", "article: smaller", "article: faster"},
         .count = 11}};

    *grid = grids[table];
    grid->rows = report_item(report_item(result, "tables"),
                             table == REPORT_PRUNING ? "pruning" : "combined");
}

void report_cells(const cJSON *row, enum report_table table,
                  char cells[REPORT_COLUMNS][REPORT_CELL])
{
    const cJSON *article = report_item(row, "article");
    const int is_base = !strcmp(report_string(row, "kind"), "base");
    const double percent = is_base ? NAN : 100.0;
    int n = 0;

    report_name(row, cells[n++], REPORT_CELL);
    cell(cells[n++], "%.4f", report_number(row, "bce"));
    cell(cells[n++], "%.4f", report_number(row, "f1_macro"));
    cell(cells[n++], "%.3f", report_number(row, "size_mb"));
    if (table == REPORT_COMBINED)
        cell(cells[n++], "%.1f %%", percent * report_number(row, "smaller"));
    cell(cells[n++], "%.1f", report_number(row, "time_us"));
    if (table == REPORT_COMBINED) {
        cell(cells[n++], "%.1f %%", percent * report_number(row, "faster"));
    } else {
        cell(cells[n++], "%.4f", report_number(row, "bce_before"));
        cell(cells[n++], "%.4f", report_number(row, "f1_before"));
    }
    cell(cells[n++], "%.2f", report_number(article, "f1_macro"));
    cell(cells[n++], "%.2f", report_number(article, "size_mb"));
    if (table == REPORT_COMBINED) {
        cell(cells[n++], "%.0f %%", 100.0 * report_number(article, "smaller"));
        cell(cells[n++], "%.0f %%", 100.0 * report_number(article, "faster"));
    }
}

static const cJSON *model_named(const cJSON *result, const char *name)
{
    const cJSON *m;

    cJSON_ArrayForEach(m, report_item(result, "models"))
    {
        if (!strcmp(report_string(m, "name"), name))
            return m;
    }
    return NULL;
}

void report_findings(const cJSON *result, void (*line)(FILE *, const char *), FILE *to)
{
    const cJSON *w, *chosen = report_item(result, "chosen"),
                    *settings = report_item(result, "settings");
    char text[512], name[REPORT_CELL];

    (void)snprintf(text, sizeof(text),
                   "Split: %s%s. The validation part decided, the figures are of the test part.",
                   report_string(settings, "split"),
                   !strcmp(report_string(settings, "split"), "random")
                       ? " (the weak one: windows of one day stand on both sides)"
                       : "");
    line(to, text);
    if (chosen) {
        (void)snprintf(
            text, sizeof(text), "Chosen at equal size after a short fine-tuning: %s, %s.",
            criterion_name(report_string(chosen, "criterion")), report_string(chosen, "scope"));
        line(to, text);
    }
    cJSON_ArrayForEach(w, report_item(result, "within"))
    {
        report_name(model_named(result, report_string(w, "model")), name, sizeof(name));
        (void)snprintf(text, sizeof(text),
                       "Smallest model within %.2f of the base's macro F1 on the validation part: "
                       "%s, %.0f bytes, %.1f %% smaller; on the test part it loses %.4f.",
                       report_number(w, "drop"), name, report_number(w, "size_bytes"),
                       100.0 * report_number(w, "smaller"), report_number(w, "test_drop"));
        line(to, text);
    }
}

/* --- For a terminal --- */

/* Columns that a text takes: characters of UTF-8, not bytes. */
static int width(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void padded(FILE *to, const char *text, int columns, int left)
{
    const int blanks = columns > width(text) ? columns - width(text) : 0;

    if (left)
        fprintf(to, "%s%*s", text, blanks, "");
    else
        fprintf(to, "  %*s%s", blanks, "", text);
}

static void table_text(const cJSON *result, enum report_table table, FILE *to)
{
    char cells[REPORT_COLUMNS][REPORT_CELL];
    int widths[REPORT_COLUMNS];
    struct report_grid grid;
    const cJSON *row;

    report_grid(result, table, &grid);
    for (int i = 0; i < grid.count; i++)
        widths[i] = width(grid.columns[i]);
    cJSON_ArrayForEach(row, grid.rows)
    {
        report_cells(row, table, cells);
        for (int i = 0; i < grid.count; i++)
            widths[i] = width(cells[i]) > widths[i] ? width(cells[i]) : widths[i];
    }
    fprintf(to, "\n%s\n", grid.title);
    for (int i = 0; i < grid.count; i++)
        padded(to, grid.columns[i], widths[i], i == 0);
    fputc('\n', to);
    cJSON_ArrayForEach(row, grid.rows)
    {
        report_cells(row, table, cells);
        for (int i = 0; i < grid.count; i++)
            padded(to, cells[i], widths[i], i == 0);
        fputc('\n', to);
    }
}

static void line_text(FILE *to, const char *text)
{
    fprintf(to, "%s\n", text);
}

void report_tables(const cJSON *result, FILE *to)
{
    report_findings(result, line_text, to);
    table_text(result, REPORT_PRUNING, to);
    table_text(result, REPORT_COMBINED, to);
}

/* --- CSV (RFC 4180) --- */

/* Quoted; what a spreadsheet would take for a formula begins with an apostrophe. */
static void csv_text(FILE *to, const char *text)
{
    fputc('"', to);
    if (*text && strchr("=+-@\t", *text))
        fputc('\'', to);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static void csv_number(FILE *to, double value)
{
    fputc(',', to);
    if (isfinite(value))
        fprintf(to, "%.10g", value);
}

void report_csv_models(const cJSON *result, FILE *to)
{
    static const char *const texts[] = {"name", "kind", "dtype", "criterion", "scope"};
    static const char *const numbers[] = {"ratio", "share", "parameters", "macs", "size_bytes"};
    static const char *const figures[] = {"windows", "accuracy", "f1_macro", "f1_weighted", "bce"};
    static const char *const times[] = {"median_us", "low_us", "high_us"};
    const cJSON *m;

    fputs("name,kind,dtype,criterion,scope,ratio,share,parameters,macs,size_bytes", to);
    for (int part = 0; part < 2; part++)
        for (size_t i = 0; i < 5; i++)
            fprintf(to, ",%s_%s", part ? "test" : "valid", figures[i]);
    fputs(",median_us,low_us,high_us,front\r\n", to);
    cJSON_ArrayForEach(m, report_item(result, "models"))
    {
        for (size_t i = 0; i < 5; i++) {
            if (i)
                fputc(',', to);
            csv_text(to, report_string(m, texts[i]));
        }
        for (size_t i = 0; i < 5; i++)
            csv_number(to, report_number(m, numbers[i]));
        for (int part = 0; part < 2; part++)
            for (size_t i = 0; i < 5; i++)
                csv_number(to, report_number(report_item(m, part ? "test" : "valid"), figures[i]));
        for (size_t i = 0; i < 3; i++)
            csv_number(to, report_number(report_item(m, "latency"), times[i]));
        fprintf(to, ",%d\r\n", cJSON_IsTrue(report_item(m, "front")));
    }
}

void report_csv_sweep(const cJSON *result, FILE *to)
{
    const cJSON *p;

    fputs("criterion,scope,ratio,parameters,bce,f1_macro\r\n", to);
    cJSON_ArrayForEach(p, report_item(result, "sweep"))
    {
        csv_text(to, report_string(p, "criterion"));
        fputc(',', to);
        csv_text(to, report_string(p, "scope"));
        csv_number(to, report_number(p, "ratio"));
        csv_number(to, report_number(p, "parameters"));
        csv_number(to, report_number(p, "bce"));
        csv_number(to, report_number(p, "f1_macro"));
        fputs("\r\n", to);
    }
}

/* Windows of a class in a confusion table. */
static double support(const cJSON *confusion, int row)
{
    const cJSON *n, *rows = cJSON_GetArrayItem(report_item(confusion, "rows"), row);
    double sum = 0;

    cJSON_ArrayForEach(n, rows) sum += cJSON_IsNumber(n) ? n->valuedouble : 0;
    return sum;
}

/* F1 of a class, NAN without windows of it. */
static double class_f1(const cJSON *confusion, int row)
{
    const cJSON *f1 = cJSON_GetArrayItem(report_item(confusion, "f1"), row);

    return cJSON_IsNumber(f1) && support(confusion, row) > 0 ? f1->valuedouble : NAN;
}

void report_csv_classes(const cJSON *result, FILE *to)
{
    const cJSON *list = report_item(result, "confusion"), *base = cJSON_GetArrayItem(list, 0);
    const cJSON *labels = report_item(base, "labels");

    fputs("class,windows", to);
    for (int k = 0; k < cJSON_GetArraySize(list); k++) {
        fputs(",", to);
        csv_text(to, report_string(cJSON_GetArrayItem(list, k), "model"));
    }
    fputs("\r\n", to);
    for (int i = 0; i < cJSON_GetArraySize(labels); i++) {
        const cJSON *label = cJSON_GetArrayItem(labels, i);
        csv_text(to, cJSON_IsString(label) ? label->valuestring : "");
        csv_number(to, support(base, i));
        for (int k = 0; k < cJSON_GetArraySize(list); k++)
            csv_number(to, class_f1(cJSON_GetArrayItem(list, k), i));
        fputs("\r\n", to);
    }
}

/* --- Markdown --- */

static void markdown_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", to);
        else if (*text == '&')
            fputs("&amp;", to);
        else if ((unsigned char)*text < 0x20)
            fputc(' ', to);
        else if (strchr("\\`*_{}[]()#|!>~", *text))
            fprintf(to, "\\%c", *text);
        else
            fputc(*text, to);
    }
}

static void markdown_line(FILE *to, const char *text)
{
    fputs("- ", to);
    markdown_text(to, text);
    fputc('\n', to);
}

static void markdown_table(const cJSON *result, enum report_table table, FILE *to)
{
    char cells[REPORT_COLUMNS][REPORT_CELL];
    struct report_grid grid;
    const cJSON *row;

    report_grid(result, table, &grid);
    fprintf(to, "\n## %s\n\n|", grid.title);
    for (int i = 0; i < grid.count; i++)
        fprintf(to, " %s |", grid.columns[i]);
    fputs("\n|", to);
    for (int i = 0; i < grid.count; i++)
        fputs(i ? "---:|" : "---|", to);
    fputc('\n', to);
    cJSON_ArrayForEach(row, grid.rows)
    {
        report_cells(row, table, cells);
        fputc('|', to);
        for (int i = 0; i < grid.count; i++) {
            fputc(' ', to);
            markdown_text(to, cells[i]);
            fputs(" |", to);
        }
        fputc('\n', to);
    }
}

static void markdown_classes(const cJSON *result, FILE *to)
{
    const cJSON *list = report_item(result, "confusion"), *base = cJSON_GetArrayItem(list, 0);
    const cJSON *labels = report_item(base, "labels");
    const int models = cJSON_GetArraySize(list);

    fputs("\n## F1 by class\n\n| class | windows |", to);
    for (int k = 0; k < models; k++) {
        fputc(' ', to);
        markdown_text(to, report_string(cJSON_GetArrayItem(list, k), "model"));
        fputs(" |", to);
    }
    fputs("\n|---|---:|", to);
    for (int k = 0; k < models; k++)
        fputs("---:|", to);
    fputc('\n', to);
    for (int i = 0; i < cJSON_GetArraySize(labels); i++) {
        const cJSON *label = cJSON_GetArrayItem(labels, i);
        char text[REPORT_CELL];
        fputs("| ", to);
        markdown_text(to, cJSON_IsString(label) ? label->valuestring : "");
        fprintf(to, " | %.0f |", support(base, i));
        for (int k = 0; k < models; k++) {
            cell(text, "%.3f", class_f1(cJSON_GetArrayItem(list, k), i));
            fprintf(to, " %s |", text);
        }
        fputc('\n', to);
    }
}

void report_markdown(const cJSON *result, FILE *to)
{
    const cJSON *s;

    fputs("# Compression compared\n\n", to);
    report_findings(result, markdown_line, to);
    markdown_table(result, REPORT_PRUNING, to);
    fputs("\nBefore tuning: on a sample of the validation part. Inference: one window, median of "
          "interleaved rounds; FP32 by the workshop's float runner, INT8 by the engine that the "
          "agent runs. The article's columns are empty where its figure is not known.\n",
          to);
    markdown_table(result, REPORT_COMBINED, to);
    markdown_classes(result, to);
    fputs(
        "\n## Commands\n\nWith `DATA`, `OUT` (and `BASE`, if one was given) set to the folders:\n\n"
        "```sh\n",
        to);
    cJSON_ArrayForEach(s, report_item(result, "stages"))
        fprintf(to, "%s  # %.1f s\n", report_string(s, "command"), report_seconds(s));
    fputs("```\n", to);
}

/* --- Files --- */

static void json_file(const cJSON *result, FILE *to)
{
    char *text = cJSON_Print(result);

    fprintf(to, "%s\n", text ? text : "");
    free(text);
}

int report_write(const cJSON *result, const char *folder, char *why, size_t why_size)
{
    static const struct {
        const char *name;
        void (*write)(const cJSON *, FILE *);
    } files[] = {{"models.csv", report_csv_models},   {"sweep.csv", report_csv_sweep},
                 {"classes.csv", report_csv_classes}, {"report.md", report_markdown},
                 {"report.html", report_html},        {"result.json", json_file}};

    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char path[1100], *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);
        if (!to)
            return -ENOMEM;
        files[i].write(result, to);
        int rc = ferror(to) ? -ENOMEM : 0;
        if (fclose(to) && !rc)
            rc = -ENOMEM;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, files[i].name);
        if (!rc)
            rc = cli_write_file(path, text, size);
        free(text);
        if (rc) {
            (void)snprintf(why, why_size, "%s: %s", path, strerror(-rc));
            return rc;
        }
    }
    return 0;
}
