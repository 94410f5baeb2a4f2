/* report_html.c - see report.h: one page that needs nothing but itself. */
#include <math.h>
#include <string.h>

#include "inference/workshop/report.h"

/* Light and dark by the reader's setting; charts take the same colours. Paper is light. */
static const char style[] =
    ":root{--page:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--band:#f3f5f7;--mark:#dff3e4;"
    "--c0:#0072b2;--c1:#b35900;--c2:#6e7781;--c3:#00815f;--c4:#a3438a;--c5:#c62f2f;--heat:0,114,"
    "178}"
    "@media(prefers-color-scheme:dark){:root{--page:#14181d;--ink:#e6edf3;--soft:#9aa6b2;"
    "--line:#3a434d;--band:#1d232a;--mark:#173a26;--c0:#58a6ff;--c1:#f0a04b;--c2:#98a3ad;"
    "--c3:#3fcf9b;--c4:#e08bd0;--c5:#ff7b72;--heat:88,166,255}}"
    "*{box-sizing:border-box}body{background:var(--page);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1.5rem 1rem 3rem}"
    "h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}"
    "p,li{max-width:60rem}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}"
    "th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;"
    "white-space:nowrap}th{color:var(--soft);font-weight:600;vertical-align:bottom;"
    "white-space:normal}th:first-child,td:first-child{text-align:left}"
    "tr.mark td{background:var(--mark)}"
    "figure{margin:1rem 0;min-width:0}figcaption{color:var(--soft);font-size:.85rem}"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));"
    "gap:0 1.5rem}svg{display:block;width:100%;height:auto}"
    "svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .soft{fill:var(--soft)}"
    "svg .grid{stroke:var(--line);stroke-width:1}svg .halo{paint-order:stroke;"
    "stroke:var(--page);stroke-width:3px;stroke-linejoin:round}"
    "svg.matrix{max-width:none}"
    "ul.key{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.3rem 0;"
    "padding:0;font-size:.85rem}ul.key svg{display:inline-block;width:28px;height:12px;"
    "vertical-align:middle;margin-right:.35rem}"
    "pre{background:var(--band);padding:.8rem;overflow-x:auto;font-size:.75rem;line-height:1.5}"
    "summary{cursor:pointer}"
    "@page{margin:12mm}"
    "@media print{:root{--page:#fff;--ink:#000;--soft:#444;--line:#bbb;--band:#f3f3f3;"
    "--mark:#e6f2e8;--c0:#0072b2;--c1:#b35900;--c2:#6e7781;--c3:#00815f;--c4:#a3438a;"
    "--c5:#c62f2f;--heat:0,114,178}body{max-width:none;padding:0;font-size:11px}"
    ".wide{overflow:visible}table{width:100%;font-size:9px}th,td{padding:.15rem .35rem}"
    ".pair{display:block}.pair figure{display:inline-block;width:49%}svg.matrix{max-width:100%}"
    "h2{font-size:1.2rem;margin-top:1.2rem}ul.key{font-size:9px;break-inside:avoid}"
    "figure,tr,.pair{break-inside:avoid}h2,ul.key{break-after:avoid}"
    "pre{white-space:pre-wrap}}";

void report_html_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '&':
            fputs("&amp;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        case '\'':
            fputs("&#39;", to);
            break;
        default:
            fputc(*text, to);
        }
    }
}

static void html_line(FILE *to, const char *text)
{
    fputs("<li>", to);
    report_html_text(to, text);
    fputs("</li>\n", to);
}

/* Whether a row's model is one of those that the findings name. */
static int is_marked(const cJSON *result, const cJSON *row)
{
    const cJSON *w;

    cJSON_ArrayForEach(w, report_item(result, "within"))
    {
        if (!strcmp(report_string(w, "model"), report_string(row, "name")))
            return 1;
    }
    return 0;
}

static void html_table(const cJSON *result, enum report_table table, FILE *to)
{
    char cells[REPORT_COLUMNS][REPORT_CELL];
    struct report_grid grid;
    const cJSON *row;

    report_grid(result, table, &grid);
    fprintf(to, "<h2>%s</h2>\n<div class=\"wide\"><table><thead><tr>", grid.title);
    for (int i = 0; i < grid.count; i++)
        fprintf(to, "<th scope=\"col\">%s</th>", grid.columns[i]);
    fputs("</tr></thead><tbody>\n", to);
    cJSON_ArrayForEach(row, grid.rows)
    {
        report_cells(row, table, cells);
        fputs(is_marked(result, row) ? "<tr class=\"mark\">" : "<tr>", to);
        for (int i = 0; i < grid.count; i++) {
            fputs("<td>", to);
            report_html_text(to, cells[i]);
            fputs("</td>", to);
        }
        fputs("</tr>\n", to);
    }
    fputs("</tbody></table></div>\n", to);
}

static void key_entry(FILE *to, const char *mark, const char *text)
{
    fprintf(to, "<li><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\">%s</svg>%s</li>", mark, text);
}

static void scatter_key(FILE *to)
{
    fputs("<ul class=\"key\">", to);
    key_entry(to, "<circle cx=\"14\" cy=\"6\" r=\"5\" fill=\"var(--c0)\"/>", "base");
    key_entry(to, "<circle cx=\"14\" cy=\"6\" r=\"5\" fill=\"var(--c1)\"/>", "base, INT8");
    key_entry(to,
              "<circle cx=\"14\" cy=\"6\" r=\"3.5\" fill=\"none\" stroke=\"var(--c2)\" "
              "stroke-width=\"1.5\"/>",
              "pruned, short fine-tuning");
    key_entry(to, "<circle cx=\"14\" cy=\"6\" r=\"5\" fill=\"var(--c4)\"/>", "pruned");
    key_entry(to, "<circle cx=\"14\" cy=\"6\" r=\"5\" fill=\"var(--c3)\"/>", "pruned, INT8");
    key_entry(to, "<path d=\"M14 0.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z\" fill=\"var(--c3)\"/>",
              "the same, integers fine-tuned");
    key_entry(to,
              "<path d=\"M10 2l8 8M18 2l-8 8\" stroke=\"var(--c5)\" stroke-width=\"2\" "
              "fill=\"none\"/>",
              "the article");
    fputs("</ul>\n", to);
}

static void losses_key(FILE *to)
{
    static const char *const names[] = {"L1", "L2", "random", "Taylor"};
    static const int colours[] = {0, 1, 2, 3};
    char mark[128];

    fputs("<ul class=\"key\">", to);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(mark, sizeof(mark),
                       "<path d=\"M1 6h26\" stroke=\"var(--c%d)\" stroke-width=\"2.5\"/>",
                       colours[i]);
        key_entry(to, mark, names[i]);
    }
    key_entry(to, "<path d=\"M1 6h26\" stroke=\"var(--ink)\" stroke-width=\"2\"/>", "global");
    key_entry(to,
              "<path d=\"M1 6h26\" stroke=\"var(--ink)\" stroke-width=\"2\" "
              "stroke-dasharray=\"5 4\"/>",
              "local");
    fputs("</ul>\n", to);
}

static void html_charts(const cJSON *result, FILE *to)
{
    fputs("<h2>F1 against size and latency</h2>\n", to);
    scatter_key(to);
    fputs("<div class=\"pair\"><figure>", to);
    report_svg_scatter(result, REPORT_SIZE, to);
    fputs("<figcaption>Macro F1 on the test part against the file's size (logarithmic)."
          "</figcaption></figure>\n<figure>",
          to);
    report_svg_scatter(result, REPORT_LATENCY, to);
    fputs("<figcaption>Macro F1 on the test part against the time of one window on this machine "
          "(logarithmic), bars: quartiles over the rounds.</figcaption></figure></div>\n"
          "<h2>Loss against the share of channels removed</h2>\n",
          to);
    losses_key(to);
    fputs("<div class=\"pair\"><figure>", to);
    report_svg_losses(result, 0, to);
    fputs("<figcaption>Before fine-tuning: BCE on a sample of the validation part (logarithmic)."
          "</figcaption></figure>\n<figure>",
          to);
    report_svg_losses(result, 1, to);
    fputs("<figcaption>After a short fine-tuning: BCE on the validation part."
          "</figcaption></figure></div>\n",
          to);
}

static void html_confusions(const cJSON *result, FILE *to)
{
    const cJSON *k, *m;
    char name[REPORT_CELL] = "";

    fputs(
        "<h2>Confusion</h2>\n<p>Rows: what it was. Columns: what the model said. Darker: a larger "
        "share of the row. Test part; classes without windows are left out of the rows.</p>\n",
        to);
    cJSON_ArrayForEach(k, report_item(result, "confusion"))
    {
        cJSON_ArrayForEach(m, report_item(result, "models"))
        {
            if (!strcmp(report_string(m, "name"), report_string(k, "model")))
                report_name(m, name, sizeof(name));
        }
        fputs("<figure><figcaption>", to);
        report_html_text(to, name);
        fputs("</figcaption><div class=\"wide\">", to);
        report_svg_confusion(k, to);
        fputs("</div></figure>\n", to);
    }
}

static void html_commands(const cJSON *result, FILE *to)
{
    const cJSON *s;

    fputs("<h2>How to have the same</h2>\n<details><summary>The commands, in order. DATA, OUT (and "
          "BASE, if one was given) stand for the folders.</summary><pre>",
          to);
    cJSON_ArrayForEach(s, report_item(result, "stages"))
    {
        report_html_text(to, report_string(s, "command"));
        fprintf(to, "  # %.1f s\n", report_seconds(s));
    }
    fputs("</pre></details>\n", to);
}

void report_html(const cJSON *result, FILE *to)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<title>Compression compared</title>\n<style>",
          to);
    fputs(style, to);
    fputs("</style></head><body>\n<h1>Compression compared</h1>\n<ul>\n", to);
    report_findings(result, html_line, to);
    fputs("</ul>\n", to);
    html_table(result, REPORT_COMBINED, to);
    fputs("<p>Green: the smallest models within 0.01 and 0.03 of the base. Inference: one window, "
          "median of rounds in which all models take turns; FP32 by the workshop's float runner, "
          "INT8 by the engine that the agent runs. The article's columns are empty where its "
          "figure is not known.</p>\n",
          to);
    html_charts(result, to);
    html_table(result, REPORT_PRUNING, to);
    fputs("<p>Before tuning: on a sample of the validation part; the other figures: test part, "
          "after a short fine-tuning.</p>\n",
          to);
    html_confusions(result, to);
    html_commands(result, to);
    fprintf(to, "<p class=\"soft\"><small>%s, ", report_string(result, "program"));
    fprintf(to, "%.0f minutes of work.</small></p>\n</body></html>\n",
            report_seconds(result) / 60.0);
}
