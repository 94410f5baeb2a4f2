/* report_svg.c - see report.h: charts. Coordinates are in the viewBox; the page scales them. */
#include <math.h>
#include <string.h>

#include "inference/workshop/report.h"

enum { WIDTH = 560, HEIGHT = 400, LEFT = 52, RIGHT = 18, TOP = 14, BOTTOM = 46, MAX_POINTS = 128 };

/* --- Axes --- */

struct axis {
    double low, high; /* values at its ends */
    int logarithmic;
    double from, to; /* coordinates */
};

static double place(const struct axis *a, double value)
{
    const double share = a->logarithmic ? (log(value) - log(a->low)) / (log(a->high) - log(a->low))
                                        : (value - a->low) / (a->high - a->low);

    return a->from + share * (a->to - a->from);
}

static int usable(const struct axis *a, double value)
{
    return isfinite(value) && (!a->logarithmic || value > 0);
}

static void widen(struct axis *a, double value)
{
    if (!usable(a, value))
        return;
    a->low = isfinite(a->low) && a->low < value ? a->low : value;
    a->high = isfinite(a->high) && a->high > value ? a->high : value;
}

/* Room around the values, also when there is only one. */
static void loosen(struct axis *a)
{
    if (!isfinite(a->low) || !isfinite(a->high)) {
        a->low = a->logarithmic ? 1 : 0;
        a->high = a->logarithmic ? 10 : 1;
    } else if (a->logarithmic) {
        const double factor = pow(a->high / a->low, 0.06) * 1.06;
        a->low /= factor;
        a->high *= factor;
    } else {
        const double room = (a->high - a->low) * 0.06 + 1e-6 + 1e-3 * fabs(a->high);
        a->low -= room;
        a->high += room;
    }
}

/* 1, 2 or 5 times a power of ten that gives at most `most` steps. */
static double step_of(double span, int most)
{
    const double rough = span / most, power = pow(10, floor(log10(rough)));
    const double lead = rough / power;

    return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

/* Values of the ticks; returns how many. */
static int ticks_of(const struct axis *a, double ticks[32])
{
    int n = 0;

    if (!a->logarithmic || a->high / a->low < 12) {
        const double step = step_of(a->high - a->low, 6);
        for (double v = ceil(a->low / step) * step; v <= a->high && n < 32; v += step)
            ticks[n++] = fabs(v) < step * 1e-9 ? 0 : v;
        return n;
    }
    const int dense = a->high / a->low < 100;
    for (double power = pow(10, floor(log10(a->low))); power <= a->high; power *= 10)
        for (int k = 0; k < 3; k++) {
            const double v = power * (k == 0 ? 1 : k == 1 ? 2 : 5);
            if (v >= a->low && v <= a->high && n < 32 && (k == 0 || dense))
                ticks[n++] = v;
        }
    return n;
}

static void tick_text(double value, char *out, size_t size)
{
    if (value >= 1e6)
        (void)snprintf(out, size, "%gM", value / 1e6);
    else if (value >= 1e4)
        (void)snprintf(out, size, "%gk", value / 1e3);
    else
        (void)snprintf(out, size, "%.3g", value);
}

static void draw_axes(FILE *to, const struct axis *x, const struct axis *y, const char *x_name,
                      const char *y_name)
{
    double ticks[32];
    char text[32];
    int n = ticks_of(x, ticks);

    for (int i = 0; i < n; i++) {
        tick_text(ticks[i], text, sizeof(text));
        fprintf(to,
                "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text class=\"soft\" x=\"%.1f\" y=\"%d\" "
                "text-anchor=\"middle\">%s</text>\n",
                place(x, ticks[i]), TOP, HEIGHT - BOTTOM, place(x, ticks[i]), HEIGHT - BOTTOM + 16,
                text);
    }
    n = ticks_of(y, ticks);
    for (int i = 0; i < n; i++) {
        tick_text(ticks[i], text, sizeof(text));
        fprintf(to,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"soft\" x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>\n",
                LEFT, place(y, ticks[i]), WIDTH - RIGHT, LEFT - 6, place(y, ticks[i]) + 4, text);
    }
    fprintf(to,
            "<text class=\"soft\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
            "<text class=\"soft\" transform=\"translate(12 %d) rotate(-90)\" "
            "text-anchor=\"middle\">%s</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, (TOP + HEIGHT - BOTTOM) / 2, y_name);
}

static void open_chart(FILE *to, const char *title)
{
    fprintf(to, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", WIDTH, HEIGHT,
            title);
}

/* --- F1 against size or latency --- */

/* What falls further behind the best is told by number only: the rest is to be told apart. */
#define SHOWN_F1 0.3

struct point {
    double x, y, low, high; /* coordinates; low, high: of the bar, or both x */
    const char *kind;
    char name[REPORT_CELL], label[REPORT_CELL];
};

struct box {
    double x0, y0, x1, y1;
};

static int overlap(const struct box *a, const struct box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

static int colour_of(const char *kind)
{
    static const struct {
        const char *kind;
        int colour;
    } colours[] = {{"base", 0},   {"base_int8", 1},   {"pruned_short", 2},      {"candidate", 2},
                   {"pruned", 4}, {"pruned_int8", 3}, {"pruned_int8_aware", 3}, {"article", 5}};

    for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++)
        if (!strcmp(colours[i].kind, kind))
            return colours[i].colour;
    return 2;
}

static int is_small(const char *kind)
{
    return !strcmp(kind, "pruned_short") || !strcmp(kind, "candidate");
}

static void draw_point(FILE *to, const struct point *p)
{
    const int colour = colour_of(p->kind);

    fputs("<g>", to);
    if (p->high - p->low > 1.0 && !is_small(p->kind))
        fprintf(to, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"var(--c%d)\" stroke-width=\"1.5\"/>",
                p->low, p->y, p->high, colour);
    if (!strcmp(p->kind, "article"))
        fprintf(to,
                "<path d=\"M%.1f %.1fl10 10m0 -10l-10 10\" stroke=\"var(--c5)\" "
                "stroke-width=\"2\" fill=\"none\"/>",
                p->x - 5, p->y - 5);
    else if (is_small(p->kind))
        fprintf(to,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"none\" stroke=\"var(--c%d)\" "
                "stroke-width=\"1.5\"/>",
                p->x, p->y, colour);
    else if (!strcmp(p->kind, "pruned_int8_aware"))
        fprintf(to, "<path d=\"M%.1f %.1fl5.5 5.5l-5.5 5.5l-5.5 -5.5z\" fill=\"var(--c%d)\"/>",
                p->x, p->y - 5.5, colour);
    else
        fprintf(to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"var(--c%d)\"/>", p->x, p->y,
                colour);
    fputs("<title>", to);
    report_html_text(to, p->name);
    fputs("</title></g>\n", to);
}

/* Puts a label beside each point that has one, where nothing else is; leaves out what has no place
 * (its tooltip says it). */
static void draw_labels(FILE *to, const struct point *points, int count)
{
    struct box taken[2 * MAX_POINTS];
    int used = 0;

    for (int i = 0; i < count; i++)
        taken[used++] =
            (struct box){points[i].x - 6, points[i].y - 6, points[i].x + 6, points[i].y + 6};
    for (int i = 0; i < count; i++) {
        const double w = 6.4 * (double)strlen(points[i].label), x = points[i].x, y = points[i].y;
        static const double sides[][3] = {/* x, y of the text's middle line, and its anchor */
                                          {9, 0, 0},   {-9, 0, 1}, {0, -14, .5}, {0, 14, .5},
                                          {9, -13, 0}, {9, 13, 0}, {-9, -13, 1}, {-9, 13, 1}};
        for (size_t s = 0; points[i].label[0] && s < sizeof(sides) / sizeof(*sides); s++) {
            const double left = x + sides[s][0] - sides[s][2] * w;
            const struct box b = {left, y + sides[s][1] - 7, left + w, y + sides[s][1] + 7};
            int free_place = b.x0 > LEFT && b.x1 < WIDTH - 2 && b.y0 > 2 && b.y1 < HEIGHT - BOTTOM;
            for (int k = 0; k < used && free_place; k++)
                free_place = !overlap(&b, &taken[k]);
            if (!free_place)
                continue;
            taken[used++] = b;
            fprintf(to, "<text class=\"halo\" x=\"%.1f\" y=\"%.1f\">", left, b.y1 - 3);
            report_html_text(to, points[i].label);
            fputs("</text>\n", to);
            break;
        }
    }
}

static double x_of(const cJSON *m, enum report_x x, const char *key)
{
    return x == REPORT_SIZE ? report_number(m, "size_bytes")
                            : report_number(report_item(m, "latency"), key);
}

static void name_point(const cJSON *m, struct point *p)
{
    const char *kind = report_string(m, "kind");
    char name[REPORT_CELL];
    const double share = report_number(m, "share");

    report_name(m, name, sizeof(name));
    p->kind = kind;
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    p->label[0] = '\0';
    if (!strcmp(kind, "base"))
        (void)snprintf(p->label, sizeof(p->label), "base FP32");
    else if (!strcmp(kind, "base_int8"))
        (void)snprintf(p->label, sizeof(p->label), "base INT8");
    else if (!strcmp(kind, "pruned") || !strcmp(kind, "pruned_int8"))
        (void)snprintf(p->label, sizeof(p->label), "%.0f %%", 100.0 * share);
}

/* The article's models, as far as their place is known (its times are of another machine). */
static int article_points(const cJSON *result, struct axis *x, struct axis *y, int measure,
                          struct point *points)
{
    const cJSON *row;
    int n = 0;

    cJSON_ArrayForEach(row, report_item(report_item(result, "tables"), "combined"))
    {
        const cJSON *a = report_item(row, "article");
        const double size = 1e6 * report_number(a, "size_mb"), f1 = report_number(a, "f1_macro");
        if (!usable(x, size) || !(f1 >= y->low || measure) || n == 4)
            continue;
        if (measure) {
            widen(x, size);
            widen(y, f1);
            continue;
        }
        points[n] = (struct point){.x = place(x, size), .y = place(y, f1), .kind = "article"};
        points[n].low = points[n].high = points[n].x;
        (void)snprintf(points[n].name, REPORT_CELL, "the article: F1 %.2f", f1);
        (void)snprintf(points[n].label, REPORT_CELL, "article");
        n++;
    }
    return n;
}

void report_svg_scatter(const cJSON *result, enum report_x which, FILE *to)
{
    struct axis x = {NAN, NAN, 1, LEFT, WIDTH - RIGHT}, y = {NAN, NAN, 0, HEIGHT - BOTTOM, TOP};
    struct point points[MAX_POINTS];
    const cJSON *m;
    int count = 0, below = 0;

    cJSON_ArrayForEach(m, report_item(result, "models"))
    {
        widen(&x, x_of(m, which, "low_us"));
        widen(&x, x_of(m, which, "high_us"));
        widen(&y, report_number(report_item(m, "test"), "f1_macro"));
    }
    if (which == REPORT_SIZE)
        (void)article_points(result, &x, &y, 1, NULL);
    if (y.low < y.high - SHOWN_F1)
        y.low = y.high - SHOWN_F1;
    const double least = y.low;
    loosen(&x);
    loosen(&y);
    cJSON_ArrayForEach(m, report_item(result, "models"))
    {
        const double value = x_of(m, which, "median_us");
        const double f1 = report_number(report_item(m, "test"), "f1_macro");
        below += f1 < least;
        if (!usable(&x, value) || !(f1 >= least) || count + 4 >= MAX_POINTS)
            continue;
        struct point *p = &points[count++];
        name_point(m, p);
        p->x = p->low = p->high = place(&x, value);
        p->y = place(&y, f1);
        if (which == REPORT_LATENCY && usable(&x, x_of(m, which, "low_us"))) {
            p->low = place(&x, x_of(m, which, "low_us"));
            p->high = place(&x, x_of(m, which, "high_us"));
        }
    }
    if (which == REPORT_SIZE)
        count += article_points(result, &x, &y, 0, points + count);
    open_chart(to, which == REPORT_SIZE ? "F1 against size" : "F1 against latency");
    draw_axes(to, &x, &y, which == REPORT_SIZE ? "bytes" : "µs a window", "macro F1");
    for (int i = 0; i < count; i++)
        draw_point(to, &points[i]);
    draw_labels(to, points, count);
    if (below)
        fprintf(to, "<text class=\"soft halo\" x=\"%d\" y=\"%d\">%d more below</text>\n", LEFT + 6,
                HEIGHT - BOTTOM - 6, below);
    fputs("</svg>\n", to);
}

/* --- Loss against ratio --- */

/* The next point of a line, from ratio on: the one with the smallest ratio above. NAN: none. */
static double next_point(const cJSON *list, int tuned, const char *criterion, const char *scope,
                         double above, double *loss)
{
    double best = NAN;
    const cJSON *p;

    cJSON_ArrayForEach(p, list)
    {
        const double ratio = report_number(p, "ratio");
        const double bce = report_number(tuned ? report_item(p, "valid") : p, "bce");
        if (strcmp(report_string(p, "criterion"), criterion) ||
            strcmp(report_string(p, "scope"), scope) || !(ratio > above) || !isfinite(bce) ||
            ratio >= best)
            continue;
        best = ratio;
        *loss = bce;
    }
    return best;
}

/* Loss without any pruning, where every line begins. */
static double loss_at_zero(const cJSON *list, int tuned)
{
    const cJSON *first = cJSON_GetArrayItem(list, 0);

    return report_number(tuned ? report_item(first, "valid") : first, "bce");
}

static void draw_line(FILE *to, const struct axis *x, const struct axis *y, const cJSON *list,
                      int tuned, int criterion, int scope)
{
    static const char *const criteria[] = {"l1", "l2", "random", "taylor"};
    static const char *const scopes[] = {"global", "local"};
    double ratio = 0, loss = loss_at_zero(list, tuned);
    char marks[16][96];
    int n = 0;

    if (!usable(y, loss))
        return;
    fprintf(to, "<path fill=\"none\" stroke=\"var(--c%d)\" stroke-width=\"2\"%s d=\"M%.1f %.1f",
            criterion, scope ? " stroke-dasharray=\"5 4\"" : "", place(x, 0), place(y, loss));
    while (n < 16 &&
           isfinite(
               ratio = next_point(list, tuned, criteria[criterion], scopes[scope], ratio, &loss)) &&
           usable(y, loss)) {
        fprintf(to, "L%.1f %.1f", place(x, ratio), place(y, loss));
        (void)snprintf(marks[n++], sizeof(marks[0]),
                       "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"var(--c%d)\"/>",
                       place(x, ratio), place(y, loss), criterion);
    }
    fprintf(to, "\"><title>%s, %s</title></path>\n", criteria[criterion], scopes[scope]);
    for (int i = 0; i < n; i++)
        fprintf(to, "%s\n", marks[i]);
}

void report_svg_losses(const cJSON *result, int tuned, FILE *to)
{
    struct axis x = {0, 0.9, 0, LEFT, WIDTH - RIGHT};
    struct axis y = {NAN, NAN, !tuned, HEIGHT - BOTTOM, TOP};
    const cJSON *p, *list = report_item(result, tuned ? "models" : "sweep");

    widen(&y, loss_at_zero(list, tuned));
    cJSON_ArrayForEach(p, list)
    {
        if (isfinite(report_number(p, "ratio")) && report_number(p, "ratio") > 0)
            widen(&y, report_number(tuned ? report_item(p, "valid") : p, "bce"));
    }
    loosen(&y);
    open_chart(to, tuned ? "loss against ratio after fine-tuning"
                         : "loss against ratio before fine-tuning");
    draw_axes(to, &x, &y, "share of channels removed", "BCE");
    for (int criterion = 0; criterion < 4; criterion++)
        for (int scope = 0; scope < 2; scope++)
            draw_line(to, &x, &y, list, tuned, criterion, scope);
    fputs("</svg>\n", to);
}

/* --- Confusion --- */

enum { CELL = 18, NAMES_LEAST = 60, NAMES_MOST = 230 };

static double cell_of(const cJSON *rows, int row, int column)
{
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetArrayItem(rows, row), column);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *label_of(const cJSON *labels, int i)
{
    const cJSON *item = cJSON_GetArrayItem(labels, i);

    return cJSON_IsString(item) ? item->valuestring : "";
}

/* Room for the longest name. */
static int names_width(const cJSON *labels)
{
    int most = NAMES_LEAST;

    for (int i = 0; i < cJSON_GetArraySize(labels); i++) {
        const int width = 12 + (int)(7.0 * (double)strlen(label_of(labels, i)));
        most = width > most ? width : most;
    }
    return most < NAMES_MOST ? most : NAMES_MOST;
}

static void draw_cells(FILE *to, const cJSON *rows, const cJSON *labels, int row, int classes,
                       int at, double sum)
{
    const int names = names_width(labels);

    for (int c = 0; c < classes; c++) {
        const double n = cell_of(rows, row, c);
        if (!(n > 0))
            continue;
        fprintf(to,
                "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" "
                "fill=\"rgba(var(--heat),%.3f)\"><title>",
                names + c * CELL, names + at * CELL, CELL, CELL, 0.08 + 0.92 * n / sum);
        report_html_text(to, label_of(labels, row));
        fputs(" as ", to);
        report_html_text(to, label_of(labels, c));
        fprintf(to, ": %.0f of %.0f</title></rect>\n", n, sum);
    }
}

void report_svg_confusion(const cJSON *confusion, FILE *to)
{
    const cJSON *rows = report_item(confusion, "rows"), *labels = report_item(confusion, "labels");
    const int classes = cJSON_GetArraySize(labels), names = names_width(labels);
    int shown = 0;

    for (int r = 0; r < classes; r++) {
        double sum = 0;
        for (int c = 0; c < classes; c++)
            sum += cell_of(rows, r, c);
        shown += sum > 0;
    }
    const int right = names + classes * CELL, bottom = names + shown * CELL;
    fprintf(to,
            "<svg class=\"matrix\" style=\"width:%dpx\" viewBox=\"0 0 %d %d\" role=\"img\" "
            "aria-label=\"confusion matrix\">\n",
            right + 2, right + 2, bottom + 2);
    for (int c = 0; c <= classes; c++)
        fprintf(to, "<path class=\"grid\" d=\"M%d %dV%d\"/>", names + c * CELL, names, bottom);
    for (int r = 0; r <= shown; r++)
        fprintf(to, "<path class=\"grid\" d=\"M%d %dH%d\"/>", names, names + r * CELL, right);
    for (int c = 0; c < classes; c++) {
        fprintf(to, "<text transform=\"translate(%d %d) rotate(-90)\">",
                names + c * CELL + CELL / 2 + 4, names - 5);
        report_html_text(to, label_of(labels, c));
        fputs("</text>\n", to);
    }
    for (int r = 0, at = 0; r < classes; r++) {
        double sum = 0;
        for (int c = 0; c < classes; c++)
            sum += cell_of(rows, r, c);
        if (!(sum > 0))
            continue;
        fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", names - 5,
                names + at * CELL + CELL / 2 + 4);
        report_html_text(to, label_of(labels, r));
        fputs("</text>\n", to);
        draw_cells(to, rows, labels, r, classes, at++, sum);
    }
    fputs("</svg>\n", to);
}
