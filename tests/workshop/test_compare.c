/* The plan of the comparison, its stages' records, and its reports on results that are made up:
 * whole, with holes, and with hostile names. Whole runs: tests/e2e/test_compare.py. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/compare.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/report.h"

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/nilm-compare-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static struct compare *experiment(void)
{
    static const double ratios[] = {0.3, 0.7}, shares[] = {0.4, 0.2};
    struct compare *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->settings = (struct compare_settings){.data = "traces",
                                            .out = root[0] ? root : "out",
                                            .split = 1,
                                            .seed = 7,
                                            .epochs = 8,
                                            .short_epochs = 1,
                                            .finetune_epochs = 4,
                                            .qat_epochs = 2,
                                            .sweep_windows = 100,
                                            .taylor_windows = 16,
                                            .latency_rounds = 3,
                                            .latency_ms = 1,
                                            .quiet = 1};
    snprintf(c->work, sizeof c->work, "%s", c->settings.out);
    snprintf(c->data_hash, sizeof c->data_hash, "0123");
    c->files = 1000;
    c->base_params = 200000;
    c->base_macs = 3e6;
    c->ratio_count = c->share_count = 2;
    memcpy(c->ratios, ratios, sizeof ratios);
    memcpy(c->shares, shares, sizeof shares);
    c->chosen_criterion = c->chosen_scope = -1;
    c->lock = -1;
    return c;
}

static void release(struct compare *c)
{
    compare_plan_clear(c, 0, 0);
    free(c);
}

/* --- The plan --- */

static const struct compare_stage *stage_named(const struct compare *c, const char *name)
{
    for (int i = 0; i < c->stage_count; i++)
        if (strcmp(c->stages[i].name, name) == 0)
            return &c->stages[i];
    fail_msg("no stage %s", name);
    return NULL;
}

static void assert_command(const struct compare *c, const char *name, const char *expected)
{
    char *text = compare_stage_command(c, stage_named(c, name));
    assert_string_equal(text, expected);
    free(text);
}

static void test_plan(void **state)
{
    struct compare *c = experiment();
    (void)state;
    c->chosen_criterion = PRUNE_TAYLOR;
    c->chosen_scope = PRUNE_LOCAL;
    c->settings.finetune_options = "  --gain 0.1 ";
    compare_plan_first(c);
    compare_plan_second(c);
    assert_int_equal(c->rc, 0);
    /* base and INT8 with two evaluations each, sweep, 8 variants at 2 ratios and 1 size in 2
     * stages, 2 sizes in 4 stages and 3 x 2 evaluations, latency */
    assert_int_equal(c->first_count, 6 + 1 + 8 * 3 * 2);
    assert_int_equal(c->stage_count, c->first_count + 2 * (4 + 6) + 1);
    assert_int_equal(c->model_count, 2 + 8 * 3 + 2 * 3);
    for (int i = 0; i < c->stage_count; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(c->stages[i].name, c->stages[k].name);
    assert_command(c, "cut-l1-local-ratio30",
                   "nilm-model prune --model \"$OUT/base-fp32.nilm\" --out "
                   "\"$OUT/cut-l1-local-ratio30.nilm\" --criterion l1 --scope local --ratio 0.3 "
                   "--seed 7 --json --quiet");
    assert_command(c, "cut-pruned20",
                   "nilm-model prune --model \"$OUT/base-fp32.nilm\" --data \"$DATA\" --out "
                   "\"$OUT/cut-pruned20.nilm\" --criterion taylor --scope local --target-params "
                   "40000 --windows 16 --seed 7 --json --quiet");
    assert_command(c, "random-global-size20-fp32",
                   "nilm-model finetune --model \"$OUT/cut-random-global-size20.nilm\" --data "
                   "\"$DATA\" --out \"$OUT/random-global-size20-fp32.nilm\" --split day "
                   "--split-seed 0 --epochs 1 --epoch-windows 0 --teacher \"$OUT/base-fp32.nilm\" "
                   "--gain 0.1 --seed 8 --json --quiet");
    release(c);
}

static void test_plan_is_full(void **state)
{
    struct compare *c = experiment();
    (void)state;
    c->ratio_count = COMPARE_MAX_RATIOS;
    for (int i = 0; i < c->ratio_count; i++)
        c->ratios[i] = 0.05 * (i + 1);
    compare_plan_first(c);
    compare_plan_second(c);
    assert_int_equal(c->rc, -E2BIG);
    release(c);
}

static void test_quoting(void **state)
{
    struct compare *c = experiment();
    (void)state;
    c->settings.base = "it's; $(here).nilm";
    c->settings.prune_options = "--protect a;rm'$x";
    compare_plan_first(c);
    assert_command(c, "cut-l2-global-ratio70",
                   "nilm-model prune --model \"$BASE\" --out \"$OUT/cut-l2-global-ratio70.nilm\" "
                   "--criterion l2 --scope global --ratio 0.7 --protect 'a;rm'\\''$x' --seed 7 "
                   "--json --quiet");
    release(c);
}

static void test_budget(void **state)
{
    double least, cost[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct compare *c = experiment();
        const double budget = 900.0 * (1 << i);
        assert_int_equal(compare_plan_budget(c, budget, &least), 0);
        assert_int_equal(c->stage_count, 0);
        compare_plan_first(c);
        compare_plan_second(c);
        cost[i] = compare_plan_cost(c);
        assert_true(least < cost[i] && cost[i] <= budget && cost[i] > 0.6 * budget);
        release(c);
    }
    struct compare *c = experiment();
    assert_int_equal(compare_plan_budget(c, least * 0.9, &least), -ERANGE);
    release(c);
}

/* --- Records of stages --- */

static int counted(int argc, char **argv)
{
    (void)argv;
    printf("{\"argc\": %d}\n", argc);
    return CLI_DONE;
}

static int prints_nonsense(int argc, char **argv)
{
    (void)argc, (void)argv;
    puts("not JSON");
    return CLI_DONE;
}

static int fails(int argc, char **argv)
{
    (void)argc, (void)argv;
    puts("{}");
    return cli_fail(CLI_FAILED, "out of luck");
}

static int dies(int argc, char **argv)
{
    (void)argc, (void)argv;
    puts("{}");
    fflush(stdout);
    _exit(kill(getpid(), SIGKILL));
}

/* Replaces the command of the first stage of a plan by one that the test brings. */
static struct compare_stage *stage_of(struct compare *c, int (*run)(int, char **))
{
    compare_plan_first(c);
    struct compare_stage *s = &c->stages[1]; /* reads the base, leaves no model */
    s->run = run;
    return s;
}

static void write_text(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(cli_write_file(path, text, strlen(text)), 0);
}

static int exists(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return access(path, F_OK) == 0;
}

static void test_records(void **state)
{
    struct compare *c = experiment();
    struct compare_stage *s = stage_of(c, counted);
    (void)state;
    write_text("base-fp32.nilm", "one");
    assert_int_equal(compare_stage_check(c, s), 0);
    assert_int_equal(compare_stage_run(c, s), CLI_DONE);
    assert_int_equal(compare_stage_check(c, s), 1);
    cJSON *report = compare_stage_report(c, s);
    assert_int_equal(report_number(report, "argc"), s->argc);
    cJSON_Delete(report);

    write_text("base-fp32.nilm", "two"); /* what it read */
    assert_int_equal(compare_stage_check(c, s), 0);
    write_text("base-fp32.nilm", "one");
    assert_int_equal(compare_stage_check(c, s), 1);
    snprintf(c->data_hash, sizeof c->data_hash, "4567"); /* the data */
    assert_int_equal(compare_stage_check(c, s), 0);
    snprintf(c->data_hash, sizeof c->data_hash, "0123");
    write_text("eval-valid-base-fp32.json", "{}"); /* what it left */
    assert_int_equal(compare_stage_check(c, s), 0);
    assert_int_equal(compare_stage_run(c, s), CLI_DONE);
    assert_int_equal(compare_stage_check(c, s), 1);
    write_text("eval-valid-base-fp32.done", "{\"key\": 3"); /* the record */
    assert_int_equal(compare_stage_check(c, s), 0);
    assert_int_equal(compare_stage_run(c, s), CLI_DONE);
    char other[128], list[160]; /* files that options name */
    snprintf(other, sizeof other, "%s/other", root);
    snprintf(list, sizeof list, "--any %s,%s", other, other);
    c->settings.quantize_options = list;
    compare_plan_clear(c, 0, 0);
    compare_plan_first(c);
    s = &c->stages[3]; /* quantize */
    s->run = counted;
    write_text("other", "one");
    assert_int_equal(compare_stage_run(c, s), CLI_DONE);
    assert_int_equal(compare_stage_check(c, s), 1);
    write_text("other", "two");
    assert_int_equal(compare_stage_check(c, s), 0);
    c->settings.split_seed = 1; /* the command */
    compare_plan_clear(c, 0, 0);
    assert_int_equal(compare_stage_check(c, stage_of(c, counted)), 0);
    release(c);
}

static void test_failures(void **state)
{
    struct compare *c = experiment();
    struct compare_stage *s = stage_of(c, counted);
    (void)state;
    write_text("base-fp32.nilm", "one");
    assert_int_equal(compare_stage_run(c, s), CLI_DONE);
    c->settings.seed = 9;
    snprintf(c->data_hash, sizeof c->data_hash, "89ab");
    s->run = fails;
    assert_int_equal(compare_stage_run(c, s), CLI_FAILED);
    assert_false(exists("eval-valid-base-fp32.done")); /* no older record speaks for it */
    s->run = dies;
    assert_int_equal(compare_stage_run(c, s), CLI_RETRY);
    s->run = prints_nonsense;
    assert_int_equal(compare_stage_run(c, s), CLI_FAILED);
    assert_int_equal(compare_stage_check(c, s), 0);
    release(c);
}

/* --- Reports --- */

static cJSON *parse(const char *text)
{
    cJSON *o = cJSON_Parse(text);
    assert_non_null(o);
    return o;
}

static char *written(const cJSON *result, void (*write)(const cJSON *, FILE *))
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    write(result, to);
    assert_int_equal(fclose(to), 0);
    return text;
}

static const char hostile[] =
    "{\"program\": \"nilm-model\", \"settings\": {\"split\": \"random\"},"
    "\"models\": [{\"name\": \"base-fp32\", \"kind\": \"base\", \"size_bytes\": 800000,"
    "  \"valid\": {\"f1_macro\": 0.9, \"bce\": 0.02}, \"test\": {\"f1_macro\": 0.88, \"bce\": "
    "0.03},"
    "  \"latency\": {\"median_us\": 60, \"low_us\": 50, \"high_us\": 80}},"
    " {\"name\": \"p\", \"kind\": \"pruned_int8\", \"criterion\": \"<i>\", \"share\": 0.28,"
    "  \"size_bytes\": 80000, \"test\": {\"f1_macro\": 0.87}}],"
    "\"within\": [{\"drop\": 0.01, \"model\": \"p\", \"size_bytes\": 80000, \"smaller\": 0.9,"
    "  \"test_drop\": 0.01}],"
    "\"tables\": {\"pruning\": [], \"combined\": [{\"name\": \"p\", \"kind\": \"pruned_int8\","
    "  \"share\": 0.28, \"size_mb\": 0.08, \"article\": {\"f1_macro\": 0.63, \"size_mb\": 0.11}}]},"
    "\"confusion\": [{\"model\": \"base-fp32\", \"labels\": [\"<img src=x onerror=y>\", "
    "\"=1+1|2\"],"
    "  \"f1\": [0.5, 0.25], \"rows\": [[3, 1], [0, 0]]}],"
    "\"stages\": [{\"name\": \"s\", \"command\": \"a <b> & c\", \"seconds\": 2}], \"seconds\": 2}";

static void test_hostile_names(void **state)
{
    cJSON *result = parse(hostile);
    (void)state;
    char *html = written(result, report_html);
    assert_null(strstr(html, "<img"));
    assert_null(strstr(html, "<i>"));
    assert_null(strstr(html, "<b>"));
    assert_non_null(strstr(html, "&lt;img src=x onerror=y&gt;"));
    assert_non_null(strstr(html, "a &lt;b&gt; &amp; c"));
    assert_non_null(strstr(html, "the weak one"));
    free(html);
    char *markdown = written(result, report_markdown);
    assert_non_null(strstr(markdown, "| &lt;img src=x onerror=y\\> | 4 | 0.500 |"));
    assert_non_null(strstr(markdown, "| =1+1\\|2 | 0 |  |")); /* no windows of it, no F1 */
    free(markdown);
    char *csv = written(result, report_csv_classes);
    assert_string_equal(csv, "class,windows,\"base-fp32\"\r\n"
                             "\"<img src=x onerror=y>\",4,0.5\r\n\"'=1+1|2\",0,\r\n");
    free(csv);
    cJSON_Delete(result);
}

static void no_numbers_missing(const char *text)
{
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf,"));
    assert_null(strstr(text, "inf\""));
    assert_null(strstr(text, "-inf"));
}

/* Whatever is missing, reports come out and hold no "nan". */
static void test_holes(void **state)
{
    static void (*const writers[])(const cJSON *, FILE *) = {
        report_html, report_markdown, report_csv_models, report_csv_sweep, report_csv_classes};
    static const char *const cut[] = {"settings", "models", "within",    "tables",
                                      "stages",   "sweep",  "confusion", "program"};
    (void)state;
    for (int k = -1; k < 8; k++) {
        cJSON *result = parse(k < 0 ? "{}" : hostile);
        if (k >= 0)
            cJSON_DeleteItemFromObjectCaseSensitive(result, cut[k]);
        for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
            char *text = written(result, writers[i]);
            no_numbers_missing(text);
            free(text);
        }
        cJSON_Delete(result);
    }
}

/* Points of a chart lie inside it, and those of a known model where they should. */
static void test_scatter(void **state)
{
    cJSON *result = parse(hostile);
    char *text = NULL;
    size_t size;
    double x, y, base_x = -1, small_x = -1, base_y = -1, small_y = -1;
    FILE *to = open_memstream(&text, &size);
    (void)state;
    report_svg_scatter(result, REPORT_SIZE, to);
    assert_int_equal(fclose(to), 0);
    for (const char *p = text; (p = strstr(p, "<circle cx=")) != NULL; p++) {
        assert_int_equal(sscanf(p, "<circle cx=\"%lf\" cy=\"%lf\"", &x, &y), 2);
        assert_true(x > 0 && x < 560 && y > 0 && y < 400);
        if (base_x < 0)
            base_x = x, base_y = y;
        else
            small_x = x, small_y = y;
    }
    assert_true(small_x < base_x && small_y > base_y); /* smaller, and a little worse */
    assert_non_null(strstr(text, "the article: F1 0.63"));
    free(text);
    cJSON_Delete(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_plan_is_full),
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_budget),
        cmocka_unit_test_setup_teardown(test_records, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_failures, make_root, remove_root),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_scatter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
