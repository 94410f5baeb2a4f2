/* Truth, score and baselines (SPEC 7.23 to 7.25): by hand, against brute force, on made-up mains.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/baseline.h"
#include "inference/workshop/score.h"
#include "inference/workshop/workshop.h"
#include "workshop/lib_run.h"

#define T0 1400000000000
#define ROUNDS 300

static char folder[] = "/tmp/nilm-score-XXXXXX", why[512];

static const char *at(const char *name)
{
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static const char *put(const char *name, const char *text)
{
    const char *path = at(name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* --- truth --- */

static struct truth_series series(const float *watts, size_t count, int64_t step_ms)
{
    struct truth_series s = {.count = count, .room = count};
    s.t_ms = calloc(count, sizeof *s.t_ms);
    s.watts = calloc(count, sizeof *s.watts);
    assert_true(s.t_ms && s.watts);
    for (size_t i = 0; i < count; i++) {
        s.t_ms[i] = T0 + (int64_t)i * step_ms;
        s.watts[i] = watts[i];
    }
    return s;
}

static void test_runs(void **state)
{
    /* 10 s a reading: a run of 3, a pause of 2, a run of 2; a pause of 4; one reading; a low run */
    const float watts[] = {0, 100, 200, 100, 0, 0, 100, 100, 0,  0,
                           0, 0,   300, 0,   0, 0, 0,   60,  60, 60};
    const struct truth_rule rule = {"x", 50, 90, 20000, 20000};
    struct truth_series s = series(watts, sizeof watts / sizeof *watts, 10000);
    struct truth t;
    (void)state;
    assert_int_equal(truth_init(&t), 0);
    assert_int_equal(truth_add_runs(&t, 0, &s, &rule), 0);
    assert_int_equal(t.run_count, 1); /* one reading is too short, the low run has no peak */
    assert_int_equal(t.runs[0].start_ms, T0 + 10000);
    assert_int_equal(t.runs[0].end_ms, T0 + 80000);
    assert_float_equal(t.runs[0].energy_wh, 600 * 10.0 / 3600, 1e-9);
    assert_float_equal(t.runs[0].peak_w, 200, 0);
    truth_free(&t);
    truth_series_free(&s);
}

static void test_what_is_judged(void **state)
{
    float watts[200];
    struct truth t;
    (void)state;
    for (int i = 0; i < 200; i++) /* flat for 10 minutes from reading 50 on */
        watts[i] = i >= 50 && i <= 110 ? 100.0f : (float)(i % 7);
    struct truth_series s = series(watts, 200, 10000);
    for (int i = 180; i < 200; i++) /* and a gap of 5 minutes before reading 180 */
        s.t_ms[i] += 290000;
    assert_int_equal(truth_init(&t), 0);
    assert_int_equal(truth_add_mains(&t, &s), 0);
    assert_int_equal(t.stretch_count, 4); /* and both ends */
    assert_int_equal(t.stretches[1].reason, TRUTH_FLAT);
    assert_int_equal(t.stretches[1].start_ms, T0 + 500000 - TRUTH_MARGIN_MS);
    assert_int_equal(t.stretches[1].end_ms, T0 + 1100000 + TRUTH_MARGIN_MS);
    assert_int_equal(t.stretches[2].reason, TRUTH_GAP);
    assert_false(truth_is_scored(&t, T0) || truth_is_scored(&t, T0 + 59999));
    assert_true(truth_is_scored(&t, T0 + 60000) && truth_is_scored(&t, T0 + 439999));
    assert_false(truth_is_scored(&t, T0 + 440000) || truth_is_scored(&t, T0 + 1159999));
    assert_true(truth_is_scored(&t, T0 + 1160000));
    assert_false(truth_is_scored(&t, T0 - 1) || truth_is_scored(&t, t.end_ms));
    assert_int_equal(truth_scored_ms(&t, T0 + 400000, T0 + 1200000), 80000);
    assert_int_equal(truth_scored_ms(&t, T0 - 5000, T0 + 65000), 5000);
    truth_free(&t);
    truth_series_free(&s);
}

static void test_truth_file(void **state)
{
    struct truth t, again;
    struct truth_rules rules;
    (void)state;
    const char *data =
        put("data.csv", "timestamp,kettle,aggregate\n"
                        "1400000000,0,50\n1400000010,2000,2050\n1400000020,2000,2055\n"
                        "1400000030,x,50\n1400000040,0,51\n1400000030,0,51\n"
                        "1400000100,0,51\n1400000110,0,50\n");
    assert_int_equal(truth_init(&t), 0);
    assert_int_equal(truth_init(&again), 0);
    truth_rules_default(&rules);
    assert_int_equal(truth_of_recording(data, &rules, &t, why, sizeof why), 0);
    assert_int_equal(t.appliance_count, 1);
    assert_string_equal(t.names[0], "kettle"); /* the mains are chosen by name, not by place */
    assert_int_equal(t.run_count, 1);
    assert_float_equal(t.energy_wh, (500 + 20500 + 20550 + 500 + 51 * 60 + 510) / 3600.0, 1e-9);
    FILE *f = fopen(at("truth.csv"), "we");
    assert_int_equal(truth_write(&t, f), 0);
    fclose(f);
    assert_int_equal(truth_read(at("truth.csv"), &again, why, sizeof why), 0);
    assert_int_equal(again.run_count, 1);
    assert_int_equal(again.runs[0].start_ms, 1400000010000);
    assert_int_equal(again.runs[0].end_ms, t.runs[0].end_ms);
    assert_int_equal(again.end_ms, t.end_ms);
    truth_free(&t);
    truth_free(&again);
    static const char *const bad[] = {
        "start,end\n1,2\n",                              /* no appliance */
        "appliance,start,end\nx,1400000000,13\n",        /* end before start */
        "appliance,start,end\nx,yesterday,1400000000\n", /* no time */
        "appliance,start,end,energy\nx,1400000000,1400000001,nan\n",
        "appliance,start,end\nx,1400000000\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(truth_init(&t), 0);
        assert_int_equal(truth_read(put("bad.csv", bad[i]), &t, why, sizeof why), -EBADMSG);
        assert_non_null(strstr(why, "bad.csv:"));
        truth_free(&t);
    }
}

static void test_rules_file(void **state)
{
    struct truth_rules rules;
    (void)state;
    truth_rules_default(&rules);
    assert_string_equal(truth_rules_find(&rules, "ahu_5")->name, "ahu_*");
    assert_string_equal(truth_rules_find(&rules, "ahu")->name, "*");
    assert_float_equal(truth_rules_find(&rules, "dishwasher")->peak_w, 500, 0);
    const char *path = put("rules.csv", "# mine\nappliance,on_w,bridge_s,shortest_s,peak_w\n"
                                        "dish*,20,1.5,60,700\n");
    assert_int_equal(truth_rules_read(&rules, path, why, sizeof why), 0);
    assert_float_equal(truth_rules_find(&rules, "dishwasher")->peak_w, 700, 0);
    assert_int_equal(truth_rules_find(&rules, "dishwasher")->bridge_ms, 1500);
    assert_string_equal(truth_rules_find(&rules, "fridge")->name, "fridge");
    static const char *const bad[] = {"appliance,on_w\nx,1\n",
                                      "appliance,on_w,bridge_s,shortest_s,peak_w\nx,-1,1,1,1\n",
                                      "appliance,on_w,bridge_s,shortest_s,peak_w\nx,1,1,1\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(truth_rules_read(&rules, put("bad.csv", bad[i]), why, sizeof why),
                         -EBADMSG);
}

/* --- score --- */

/* Two kettles and a fridge; one true fridge lies in a gap. */
static const char *const truth_text = "appliance,start_ms,end_ms,energy_wh,peak_w\n"
                                      "_span,1400000000000,1400036000000,5000,\n"
                                      "_gap,1400030000000,1400031000000,,\n"
                                      "kettle,1400001000000,1400001120000,60,2000\n"
                                      "kettle,1400005000000,1400005120000,60,2000\n"
                                      "fridge,1400010000000,1400013000000,80,100\n"
                                      "fridge,1400030500000,1400030800000,8,100\n";

static void judge(const char *events_text, const char *map, struct score *out)
{
    struct truth t;
    struct score_events e;
    assert_int_equal(truth_init(&t), 0);
    assert_int_equal(truth_read(put("truth.csv", truth_text), &t, why, sizeof why), 0);
    assert_int_equal(score_events_read(put("events", events_text), NULL, &e, why, sizeof why), 0);
    assert_int_equal(score_run(&t, &e, map, NULL, out, why, sizeof why), 0);
    score_events_free(&e);
    truth_free(&t);
}

/* The same three runs, told in four ways: kettle right (20 s late), kettle wrong (an hour late),
 * fridge right within a tenth of its 50 minutes, and something the truth does not have. */
static const char *const told[] = {
    ("{\"type\":\"on\",\"meter\":\"m\",\"appliance\":\"Kettle\",\"time\":1400001020000,\"run\":1}\n"
     "{\"type\":\"off\",\"meter\":\"m\",\"appliance\":\"Kettle\",\"time\":1400001120000,\"run\":1,"
     "\"start\":1400001020000,\"end\":1400001120000,\"energy\":50}\n"
     "{\"type\":\"on\",\"meter\":\"m\",\"appliance\":\"unknown\",\"time\":1400008600000,\"run\":2}"
     "\n"
     "{\"type\":\"identified\",\"meter\":\"m\",\"appliance\":\"Kettle\",\"time\":1400008610000,"
     "\"run\":2,\"start\":1400008600000}\n"
     "{\"type\":\"off\",\"meter\":\"m\",\"appliance\":\"Kettle\",\"time\":1400008700000,\"run\":2,"
     "\"start\":1400008600000,\"end\":1400008700000,\"energy\":40}\n"
     "{\"type\":\"on\",\"meter\":\"m\",\"appliance\":\"Refrigerator\",\"time\":1400010290000,"
     "\"run\":3}\n"
     "{\"type\":\"on\",\"meter\":\"m\",\"appliance\":\"unknown-3\",\"time\":1400011000000,\"run\":"
     "4}"
     "\n"
     "{\"alert\":\"left_on\"}\n"),
    ("{\"events\":[{\"run\":1,\"meter\":\"m\",\"appliance\":\"Kettle\",\"start\":1400001020000,"
     "\"end\":1400001120000,\"energy\":50},\n{\"run\":2,\"meter\":\"m\",\"appliance\":\"kettle\","
     "\"start\":1400008600000,\"end\":1400008700000,\"energy\":40},{\"run\":3,\"meter\":\"m\","
     "\"appliance\":\"fridge\",\"start\":1400010290000,\"end\":null},{\"run\":4,\"meter\":\"m\","
     "\"appliance\":\"unknown-3\",\"start\":1400011000000,\"end\":null}]}\n"),
    ("{\"topic\":\"t\",\"payload\":{\"type\":\"on\",\"meter\":\"m\",\"appliance\":\"Kettle\","
     "\"time\":"
     "1400001020000,\"run\":1}}\n{\"topic\":\"t\",\"payload\":{\"type\":\"on\",\"meter\":\"m\","
     "\"appliance\":\"Kettle\",\"time\":1400001020000,\"run\":1}}\n"
     "{\"topic\":\"t\",\"payload\":{\"type\":\"off\",\"meter\":\"m\",\"appliance\":\"Kettle\","
     "\"time\":"
     "1400001120000,\"run\":1,\"start\":1400001020000,\"end\":1400001120000,\"energy\":50}}\n"
     "{\"topic\":\"t\",\"payload\":{\"type\":\"off\",\"meter\":\"m\",\"appliance\":\"Kettle\","
     "\"time\":"
     "1400008700000,\"run\":2,\"start\":1400008600000,\"end\":1400008700000,\"energy\":40}}\n"
     "{\"topic\":\"t\",\"payload\":{\"type\":\"on\",\"meter\":\"m\",\"appliance\":\"fridge\","
     "\"time\":"
     "1400010290000,\"run\":3}}\n{\"topic\":\"t\",\"payload\":{\"type\":\"on\",\"meter\":\"m\","
     "\"appliance\":\"unknown-3\",\"time\":1400011000000,\"run\":4}}\n{\"summary\":{}}\n"),
    ("appliance;start;end;energy\nKettle;2014-05-13T17:10:20Z;1400001120;50\n"
     "kettle;1400008600;1400008700;40\nfridge;1400010290;;\nunknown-3;1400011000;;\n"),
};

static void test_four_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        struct score s;
        judge(told[i], NULL, &s);
        const struct score_appliance *kettle = &s.appliances[0], *fridge = &s.appliances[1];
        assert_int_equal(s.appliance_count, 2);
        assert_int_equal(kettle->starts.truth, 2);
        assert_int_equal(kettle->starts.predicted, 2);
        assert_int_equal(kettle->starts.matched, 1);
        assert_int_equal(kettle->stops.matched, 1);
        assert_float_equal(kettle->starts.f1, 0.5, 1e-9);
        assert_float_equal(kettle->start_error_s, 20, 1e-9);
        assert_float_equal(kettle->energy_error, -0.25, 1e-9);
        assert_int_equal(fridge->starts.truth, 1); /* the other one cannot be judged */
        assert_int_equal(fridge->starts.matched, 1);
        assert_int_equal(fridge->stops.predicted, 0);
        assert_int_equal(fridge->open, 1);
        assert_int_equal(s.not_judged, 1);
        assert_int_equal(s.other_count, 1);
        assert_string_equal(s.others[0].name, "unknown-3");
        assert_int_equal(s.outside_truth, 1);
        assert_int_equal(s.starts.matched, 2);
        assert_int_equal(s.starts.predicted, 3);
        assert_float_equal(s.f1_macro, 0.75, 1e-9);
        score_free(&s);
    }
}

/* What was said of a run whose own start is not judged is not wrong either. */
static void test_said_of_what_is_not_judged(void **state)
{
    (void)state;
    struct score s;
    judge("appliance,start_ms,end_ms,energy_wh\n"
          "fridge,1400010000000,1400013000000,80\n"
          "fridge,1400031090000,1400031200000,8\n"
          "fridge,1400030810000,1400031200000,8\n"
          "fridge,1400032000000,1400032200000,8\n",
          NULL, &s);
    assert_int_equal(s.appliances[1].starts.truth, 1);
    assert_int_equal(s.appliances[1].starts.matched, 1);
    assert_int_equal(s.appliances[1].starts.predicted, 3);
    score_free(&s);
}

static void test_minutes_and_names(void **state)
{
    struct score s;
    (void)state;
    /* kettle said for the second half of the first run and one minute behind it */
    judge("appliance,start,end\nboiler,1400001060000,1400001180000\n", "boiler=kettle", &s);
    /* minutes touched: 2 and, since the second true run begins 40 s into one, 3 */
    assert_int_equal(s.appliances[0].minutes.truth, 5);
    assert_int_equal(s.appliances[0].minutes.predicted, 2);
    assert_int_equal(s.appliances[0].minutes.matched, 1);
    assert_int_equal(s.appliances[0].starts.matched, 0); /* 60 s off, 30 s allowed */
    score_free(&s);
    judge("appliance,start,end\nboiler,1400001000000,1400001120000\n", NULL, &s);
    assert_int_equal(s.not_judged, 1);
    assert_int_equal(s.starts.predicted, 0);
    assert_true(isnan(s.starts.precision));
    score_free(&s);
    judge("", NULL, &s); /* nothing was recognised */
    assert_float_equal(s.f1_macro, 0, 0);
    score_free(&s);
}

static void test_delay(void **state)
{
    struct score s;
    (void)state;
    judge("{\"type\":\"on\",\"appliance\":\"unknown\",\"time\":1400001000000,\"run\":1}\n"
          "{\"type\":\"identified\",\"appliance\":\"kettle\",\"time\":1400001045000,\"run\":1,"
          "\"start\":1400001000000}\n",
          NULL, &s);
    assert_float_equal(s.appliances[0].delay_s, 45, 1e-9);
    assert_float_equal(s.appliances[0].start_error_s, 0, 1e-9);
    score_free(&s);
}

/* The largest number of pairs, by trying everything. */
static size_t brute(const int64_t *truth, const int64_t *near, size_t n, const int64_t *found,
                    size_t m, unsigned used)
{
    size_t best = 0;
    if (n == 0)
        return 0;
    best = brute(truth + 1, near + 1, n - 1, found, m, used);
    for (size_t i = 0; i < m; i++) {
        if ((used >> i & 1) || llabs(found[i] - truth[0]) > near[0])
            continue;
        size_t with = 1 + brute(truth + 1, near + 1, n - 1, found, m, used | 1u << i);
        best = with > best ? with : best;
    }
    return best;
}

static uint32_t draw(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

static void test_pairing_is_optimal(void **state)
{
    uint32_t seed = 7;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct truth t;
        struct score_events e = {0};
        struct score s;
        struct score_event event = {.energy_wh = NAN};
        int64_t truth[6], near[6], found[7];
        size_t n = draw(&seed, 7), m = draw(&seed, 8);
        assert_int_equal(truth_init(&t), 0);
        t.start_ms = T0;
        t.end_ms = T0 + 100000000;
        assert_int_equal(score_events_name(&e, "x", &event.name), 0);
        struct truth_run run = {0};
        assert_int_equal(truth_appliance(&t, "x", &run.appliance), 0);
        for (size_t i = 0; i < n; i++) {
            run.start_ms = truth[i] = T0 + 1000000 + draw(&seed, 400) * 1000;
            run.end_ms = run.start_ms + draw(&seed, 2000) * 1000;
            near[i] = (run.end_ms - run.start_ms) / 10;
            near[i] = near[i] > 30000 ? near[i] : 30000;
            assert_int_equal(truth_add(&t, &run), 0);
        }
        truth_sort(&t);
        for (size_t i = 0; i < m; i++) {
            event.start_ms = found[i] = T0 + 1000000 + draw(&seed, 400) * 1000;
            assert_int_equal(score_events_add(&e, &event), 0);
        }
        assert_int_equal(score_run(&t, &e, NULL, NULL, &s, why, sizeof why), 0);
        assert_int_equal(s.starts.matched, brute(truth, near, n, found, m, 0));
        score_free(&s);
        score_events_free(&e);
        truth_free(&t);
    }
}

static void test_bad_events(void **state)
{
    static const char *const bad[] = {
        "{\"type\":\"on\",\"appliance\":\"x\"}\n",                         /* no time */
        "{\"type\":\"on\",\"time\":1400001000000}\n",                      /* no name */
        "{\"type\":\"on\",\"appliance\":\"x\",\"time\":1400001000000}\n{", /* cut off */
        "{\"type\":\"on\",\"appliance\":\"x\",\"time\":-1}\n",
        "[1,2]\n",
        "x\n"};
    struct score_events e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(score_events_read(put("bad", bad[i]), NULL, &e, why, sizeof why),
                         -EBADMSG);
        assert_non_null(strstr(why, "bad:"));
        score_events_free(&e);
    }
    assert_int_equal(score_events_read(at("nowhere"), NULL, &e, why, sizeof why), -ENOENT);
}

/* --- baselines --- */

/* A day at 8 s: base load 60 W with noise, a fridge of 90 W, a kettle of 2 kW. */
static void write_day(const char *name)
{
    FILE *f = fopen(at(name), "we");
    uint32_t seed = 3;
    assert_non_null(f);
    fputs("timestamp,aggregate,fridge,microwave\n", f);
    for (int i = 0; i < 10800; i++) {
        double fridge = i % 450 < 150 ? 90 : 0, microwave = i % 1700 >= 200 && i % 1700 < 220;
        fprintf(f, "%d,%.1f,%.1f,%.1f\n", 1400000000 + 8 * i,
                60 + fridge + 1200 * microwave + draw(&seed, 5), fridge, 1200 * microwave);
    }
    assert_int_equal(fclose(f), 0);
}

static void test_baselines_on_clear_mains(void **state)
{
    static const char *const methods[] = {"hart", "combinatorial"};
    char data[128], truth[128], out[128];
    (void)state;
    write_day("day.csv");
    snprintf(data, sizeof data, "%s", at("day.csv"));
    snprintf(truth, sizeof truth, "%s", at("day-truth.csv"));
    snprintf(out, sizeof out, "%s", at("day.jsonl"));
    cJSON_Delete(run_json(workshop_truth,
                          (const char *const[]){"--data", data, "--out", truth, "--json", NULL}));
    for (int i = 0; i < 2; i++) {
        cJSON_Delete(
            run_json(workshop_baseline, (const char *const[]){methods[i], "--train", data, "--data",
                                                              data, "--out", out, "--json", NULL}));
        cJSON *o = run_json(workshop_score, (const char *const[]){"--events", out, "--truth", truth,
                                                                  "--data", data, "--json", NULL});
        assert_true(run_number(o, "f1_macro") > 0.95);
        assert_true(run_number(o, "stops_f1_macro") > 0.95);
        assert_true(run_number(o, "state_f1_macro") > 0.95);
        assert_true(run_number(o, "energy_error_macro") < 0.1); /* edges that coincide */
        cJSON_Delete(o);
    }
}

static void test_refit(void **state)
{
    const char *data = getenv("NILM_DATA");
    char paths[1024];
    struct truth_rules rules;
    struct truth t;
    size_t counts[4] = {0};
    (void)state;
    if (data == NULL) {
        print_message("NILM_DATA is not set: no REFIT to read\n");
        skip();
    }
    snprintf(paths, sizeof paths,
             "%s/refit/refit_h2_2014-04-19_2014-04-25.csv,"
             "%s/refit/refit_h2_2014-04-26_2014-05-02.csv",
             data, data);
    assert_int_equal(truth_init(&t), 0);
    truth_rules_default(&rules);
    assert_int_equal(truth_of_recording(paths, &rules, &t, why, sizeof why), 0);
    for (size_t i = 0; i < t.run_count; i++)
        counts[t.runs[i].appliance] += truth_is_scored(&t, t.runs[i].start_ms);
    for (uint32_t a = 0; a < 4; a++)
        print_message("%s: %zu starts\n", t.names[a], counts[a]);
    /* An independent count of the same rules by another program: 214, 8, 11, 16. */
    assert_int_equal(counts[0], 214);
    assert_int_equal(counts[1] + counts[2] + counts[3], 8 + 11 + 16);
    truth_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_what_is_judged),
        cmocka_unit_test(test_truth_file),
        cmocka_unit_test(test_rules_file),
        cmocka_unit_test(test_four_forms),
        cmocka_unit_test(test_said_of_what_is_not_judged),
        cmocka_unit_test(test_minutes_and_names),
        cmocka_unit_test(test_delay),
        cmocka_unit_test(test_pairing_is_optimal),
        cmocka_unit_test(test_bad_events),
        cmocka_unit_test(test_baselines_on_clear_mains),
        cmocka_unit_test(test_refit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
