/* report_html.c - the report as one page: charts are SVG in the page, nothing is fetched, light and
 * dark follow the reader's setting. Names come from people and the network: all text is escaped. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/report.h"

#define SERIES 7 /* loads with a colour of their own; the rest is one */
#define WIDTH 900
#define HEIGHT 240

static const char style[] =
    ":root{--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--dim:#667080;--line:#dfe3e8;--c0:#3b6fd4;"
    "--c1:#e08a2c;--c2:#2f9e77;--c3:#c8527a;--c4:#7d5fc4;--c5:#2b9bb3;--c6:#b3932a;--c7:#a9b2bf;"
    "--c8:#d3d8df;--warn:#c0392b}"
    "@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b212a;--ink:#e6eaf0;"
    "--dim:#93a0b0;--line:#2d3642;--c0:#6f9cf0;--c1:#f0a650;--c2:#51c39a;--c3:#e37fa0;"
    "--c4:#a48ae6;--c5:#56c2d8;--c6:#d6b850;--c7:#6b7686;--c8:#3d4856;--warn:#ff7a6b}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.45 system-ui,sans-serif}main{max-width:980px;margin:0 auto;padding:28px 20px}"
    "h1{font-size:24px;margin:0}h2{font-size:16px;margin:0 0 12px}p{margin:4px 0;color:var(--dim)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:12px;"
    "margin:20px 0}section,.tile{background:var(--card);border:1px solid var(--line);"
    "border-radius:10px;padding:16px}section{margin-bottom:16px;overflow-x:auto}"
    ".tile b{display:block;font-size:22px}.tile span{color:var(--dim);font-size:13px}"
    "table{border-collapse:collapse;width:100%}th{font-weight:600;color:var(--dim);font-size:13px;"
    "text-align:left}td,th{padding:5px 8px;border-bottom:1px solid var(--line)}"
    "tr:last-child td{border-bottom:0}.n{text-align:right;font-variant-numeric:tabular-nums;"
    "white-space:nowrap}.bar{width:26%}.bar i{display:block;height:9px;border-radius:3px;"
    "min-width:1px}svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);"
    "font:11px system-ui,sans-serif}.key{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:10px;"
    "color:var(--dim);font-size:13px}.key i{display:inline-block;width:10px;height:10px;"
    "border-radius:2px;margin-right:6px}.open{color:var(--warn)}"
    "@media print{body{background:#fff}section,.tile{break-inside:avoid}}";

static void text(FILE *f, const char *s)
{
    for (; *s; s++) {
        const char *e = *s == '<'    ? "&lt;"
                        : *s == '>'  ? "&gt;"
                        : *s == '&'  ? "&amp;"
                        : *s == '"'  ? "&quot;"
                        : *s == '\'' ? "&#39;"
                                     : NULL;
        if (e)
            fputs(e, f);
        else
            fputc((unsigned char)*s < 32 || *s == 127 ? '?' : *s, f);
    }
}

static double share(const struct report *r, double wh)
{
    return r->wh > 0 ? 100 * wh / r->wh : 0;
}

/* A round number at or above x / 4: lines of a chart. */
static double grid_step(double x)
{
    const double power = pow(10, floor(log10(x > 0 ? x / 4 : 1)));
    const double m = x / 4 / power;
    return power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

static void tile(FILE *f, const char *value, const char *what)
{
    fprintf(f, "<div class=tile><b>");
    text(f, value);
    fprintf(f, "</b><span>%s</span></div>", what);
}

static void head(const struct report *r, FILE *f)
{
    char a[CLI_STAMP], b[CLI_STAMP], v[64];
    fprintf(f,
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
            "content=\"width=device-width\"><meta name=color-scheme content=\"light dark\">"
            "<title>Energy report</title><style>%s</style><main><h1>Energy report: ",
            style);
    text(f, r->config->device);
    fprintf(f, "</h1><p>%s to %s, local time</p><div class=tiles>", cli_stamp(r->from_ms, a),
            cli_stamp(r->to_ms, b));
    snprintf(v, sizeof v, "%.1f kWh", r->wh / 1000);
    tile(f, v, "energy");
    if (r->cost > 0) {
        snprintf(v, sizeof v, "%.2f %s", r->cost, r->config->currency);
        tile(f, v, "cost");
    }
    snprintf(v, sizeof v, "%.0f %%", share(r, r->base_wh));
    tile(f, v, "base load");
    snprintf(v, sizeof v, "%.0f %%", share(r, r->named_wh));
    tile(f, v, "named appliances");
    snprintf(v, sizeof v, "%.0f %%", share(r, r->unknown_wh));
    tile(f, v, "unknown");
    snprintf(v, sizeof v, "%zu", r->alert_count);
    tile(f, v, "alerts");
    fprintf(f, "</div>");
}

/* Axis lines with their numbers, for values up to top; k: units of the number. */
static void grid(FILE *f, double top, double k, const char *unit)
{
    const double step = grid_step(top);
    for (double v = 0; v <= top * 1.0001; v += step) {
        const double y = HEIGHT - 24 - (HEIGHT - 40) * v / top;
        fprintf(f,
                "<line x1=44 x2=%d y1=%.1f y2=%.1f stroke=\"var(--line)\"/><text x=40 y=%.1f "
                "text-anchor=end>%g%s</text>",
                WIDTH, y, y, y + 4, v / k, v + step > top * 1.0001 ? unit : "");
    }
}

/* What a day's column is made of, from below: colour i; SERIES: other loads, SERIES + 1: the rest.
 */
static double day_part(const struct report *r, const struct report_day *d, int part)
{
    double named = 0, others = 0;
    for (size_t i = 0; i < r->load_count; i++) {
        if (!r->loads[i].counted)
            continue;
        named += (double)d->load_wh[i];
        others += i >= SERIES ? (double)d->load_wh[i] : 0;
    }
    if (part < SERIES)
        return (size_t)part < r->load_count && r->loads[part].counted ? (double)d->load_wh[part]
                                                                      : 0;
    return part == SERIES ? others : fmax(0, d->wh - named);
}

static double day_total(const struct report *r, const struct report_day *d)
{
    double sum = 0;
    for (int p = 0; p < SERIES + 2; p++)
        sum += day_part(r, d, p);
    return sum;
}

static void part_name(const struct report *r, int part, FILE *f)
{
    if (part < SERIES)
        text(f, r->loads[part].name);
    else
        fputs(part == SERIES ? "other loads" : "at rest, and what no run explains", f);
}

static void days(const struct report *r, FILE *f)
{
    double top = 0;
    char day[16];
    for (size_t i = 0; i < r->day_count; i++)
        top = fmax(top, day_total(r, &r->days[i]));
    if (top <= 0)
        return;
    top = grid_step(top) * ceil(top / grid_step(top));
    const double width = (WIDTH - 52.0) / (double)r->day_count;
    const size_t each = r->day_count / 10 + 1;
    fprintf(f, "<section><h2>Energy by day</h2><svg viewBox=\"0 0 %d %d\" role=img>", WIDTH,
            HEIGHT);
    grid(f, top, 1000, " kWh");
    for (size_t i = 0; i < r->day_count; i++) {
        const struct report_day *d = &r->days[i];
        double y = HEIGHT - 24;
        const double x = 50 + width * (double)i, w = fmax(1, fmin(48, width * 0.78));
        for (int p = SERIES + 1; p >= 0; p--) {
            const double wh = day_part(r, d, p), h = (HEIGHT - 40) * wh / top;
            if (h < 0.05)
                continue;
            y -= h;
            fprintf(f, "<rect x=%.1f y=%.2f width=%.1f height=%.2f fill=\"var(--c%d)\"><title>%s, ",
                    x, y, w, h, p, calendar_text(d->day, day));
            part_name(r, p, f);
            fprintf(f, ": %.2f kWh</title></rect>", wh / 1000);
        }
        if (i % each == 0)
            fprintf(f, "<text x=%.1f y=%d>%s</text>", x, HEIGHT - 8,
                    calendar_text(d->day, day) + 5);
    }
    fprintf(f, "</svg><div class=key>");
    for (int p = 0; p < SERIES + 2; p++) {
        double sum = 0;
        for (size_t i = 0; i < r->day_count; i++)
            sum += day_part(r, &r->days[i], p);
        if (sum <= 0)
            continue;
        fprintf(f, "<span><i style=\"background:var(--c%d)\"></i>", p);
        part_name(r, p, f);
        fprintf(f, "</span>");
    }
    fprintf(f, "</div></section>");
}

static void profile(const struct report *r, FILE *f)
{
    double top = 0, w[24];
    for (int h = 0; h < 24; h++) {
        w[h] = r->hour_s[h] > 0 ? r->hour_wh[h] * 3600 / r->hour_s[h] : 0;
        top = fmax(top, w[h]);
    }
    if (top <= 0)
        return;
    top = grid_step(top) * ceil(top / grid_step(top));
    fprintf(f,
            "<section><h2>Mean power by hour of the day</h2><svg viewBox=\"0 0 %d %d\" role=img>",
            WIDTH, HEIGHT);
    grid(f, top, 1, " W");
    for (int h = 0; h < 24; h++) {
        const double height = (HEIGHT - 40) * w[h] / top, x = 50 + (WIDTH - 52.0) / 24 * h;
        fprintf(f,
                "<rect x=%.1f y=%.1f width=28 height=%.1f rx=2 fill=\"var(--c0)\"><title>%02d:00: "
                "%.0f W</title></rect>",
                x, HEIGHT - 24 - height, height, h, w[h]);
        if (h % 3 == 0)
            fprintf(f, "<text x=%.1f y=%d>%02d:00</text>", x, HEIGHT - 8, h);
    }
    fprintf(f, "</svg></section>");
}

static void loads(const struct report *r, FILE *f)
{
    const double most = r->load_count && r->loads[0].wh > 0 ? r->loads[0].wh : 1;
    fprintf(f,
            "<section><h2>Appliances and machines</h2><table><tr><th>name<th>meter<th class=n>runs"
            "<th class=n>hours<th class=n>kWh<th class=n>share<th class=n>");
    text(f, r->config->currency);
    fprintf(f, "<th class=bar></tr>");
    for (size_t i = 0; i < r->load_count; i++) {
        const struct report_load *l = &r->loads[i];
        fprintf(f, "<tr><td>");
        text(f, l->name);
        fprintf(f, "<td>");
        text(f, l->meter);
        fprintf(f,
                "<td class=n>%" PRIu64 "<td class=n>%.1f<td class=n>%.2f<td class=n>%.1f %%"
                "<td class=n>%.2f<td class=bar><i "
                "style=\"width:%.1f%%;background:var(--c%d)\"></i></tr>",
                l->runs, l->seconds / 3600, l->wh / 1000, share(r, l->wh), l->cost,
                100 * l->wh / most, i < SERIES ? (int)i : SERIES);
    }
    fprintf(f, "</table></section>");
}

static void meters(const struct report *r, FILE *f)
{
    if (!r->meter_count)
        return;
    fprintf(
        f,
        "<section><h2>Meters</h2><table><tr><th>meter<th class=n>kWh<th class=n>base"
        "<th class=n>off h<th class=n>idle h<th class=n>run h<th class=n>peak h<th class=n>starts"
        "<th class=n>per hour<th class=n>highest W</tr>");
    for (size_t i = 0; i < r->meter_count; i++) {
        const struct report_meter *m = &r->meters[i];
        fprintf(f, "<tr><td>");
        text(f, m->name);
        fprintf(
            f,
            "<td class=n>%.2f<td class=n>%.0f %%<td class=n>%.1f<td class=n>%.1f<td class=n>%.1f"
            "<td class=n>%.1f<td class=n>%" PRIu64 "<td class=n>%.2f<td class=n>%.0f</tr>",
            m->wh / 1000, m->wh > 0 ? 100 * m->base_wh / m->wh : 0, m->off_s / 3600,
            m->idle_s / 3600, m->run_s / 3600, m->peak_s / 3600, m->starts,
            m->seen_s > 0 ? (double)m->starts * 3600 / m->seen_s : 0, m->high_w);
    }
    fprintf(f, "</table></section>");
    if (!r->config->shift_count)
        return;
    fprintf(f,
            "<section><h2>Shifts</h2><table><tr><th>meter<th>shift<th class=n>kWh<th class=n>run h"
            "<th class=n>starts</tr>");
    for (size_t i = 0; i < r->meter_count; i++) {
        for (size_t k = 0; k <= SHIFT_MAX; k++) {
            const struct report_shift *s = &r->meters[i].shifts[k];
            if (k >= r->config->shift_count && (k < SHIFT_MAX || s->wh <= 0))
                continue;
            fprintf(f, "<tr><td>");
            text(f, r->meters[i].name);
            fprintf(f, "<td>");
            text(f, k < SHIFT_MAX ? r->config->shifts[k].name : "in no shift");
            fprintf(f, "<td class=n>%.2f<td class=n>%.1f<td class=n>%" PRIu64 "</tr>", s->wh / 1000,
                    s->run_s / 3600, s->starts);
        }
    }
    fprintf(f, "</table></section>");
}

static void alerts(const struct report *r, FILE *f)
{
    char since[CLI_STAMP];
    if (!r->alert_count)
        return;
    fprintf(f, "<section><h2>Alerts</h2><table><tr><th>since<th>what<th>where<th>expected<th>seen"
               "</tr>");
    for (size_t i = 0; i < r->alert_count; i++) {
        const struct alerts_row *a = &r->alerts[i];
        fprintf(f, "<tr><td class=n>%s<td%s>", cli_stamp(a->since_ms, since),
                a->cleared_ms ? "" : " class=open");
        text(f, a->alert);
        fprintf(f, "%s<td>", a->cleared_ms ? "" : " (open)");
        text(f, a->meter);
        fputs(a->appliance[0] ? ", " : "", f);
        text(f, a->appliance);
        fprintf(f, "<td>");
        text(f, a->expected);
        fprintf(f, "<td>");
        text(f, a->seen);
        fprintf(f, "</tr>");
    }
    fprintf(f, "</table></section>");
}

void report_html(const struct report *r, FILE *f)
{
    head(r, f);
    days(r, f);
    loads(r, f);
    profile(r, f);
    meters(r, f);
    alerts(r, f);
    fprintf(f,
            "<p>Energy of an appliance is that of its runs. Base load: the lowest mean of five "
            "minutes of each day, over the day.%s</p></main></html>\n",
            r->overflow ? " There is more than a report holds: choose a shorter time." : "");
}
