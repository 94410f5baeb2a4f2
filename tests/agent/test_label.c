/* test_label.c - runs that nobody knows are learned in their own transaction; a person's word goes
 * forward, back into the history, and over MQTT only with a signature (SPEC 4.9, 7.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/journal.h"
#include "agent/label.h"
#include "agent/lib_folder.h"
#include "agent/place_store.h"
#include "storage/history.h"
#include "storage/outbox.h"
#include "storage/places.h"

#define T0 1700000000000LL

static char why[512];

struct world {
    struct store *store;
    struct journal *journal;
};

static struct world open_world(void **state)
{
    struct world w;
    int64_t epoch;
    assert_int_equal(store_open(folder_path(state, "nilmd.db"), &w.store, NULL, why, sizeof why),
                     0);
    assert_int_equal(outbox_start(w.store, 1790000000, &epoch), 0);
    assert_int_equal(journal_create(w.store, NULL, NULL, &w.journal), 0);
    return w;
}

static void close_world(struct world *w)
{
    journal_destroy(w->journal);
    store_close(w->store);
}

/* Run number k of a meter, as its pipeline tells it. */
static void run(struct world *w, const char *meter, int k, const char *appliance, double watts,
                double seconds)
{
    static struct outcome o;
    struct outcome_sink sink = journal_sink(w->journal);
    memset(&o, 0, sizeof o);
    o.meter = meter;
    o.event_count = 1;
    struct event *e = &o.events[0];
    e->type = EVENT_ON;
    snprintf(e->appliance, sizeof e->appliance, "%s", appliance);
    e->quality = EVENT_TRACE;
    e->time_ms = e->start_ms = T0 + k * 3600000LL;
    e->power_w = watts;
    assert_int_equal(sink.commit(sink.context, &o), 0);
    e->type = EVENT_OFF;
    e->end_ms = e->time_ms = e->start_ms + (int64_t)(seconds * 1000);
    e->energy_wh = watts * (1 + 0.01 * (k % 3)) * seconds / 3600;
    e->peak_w = watts * 1.1;
    assert_int_equal(sink.commit(sink.context, &o), 0);
}

struct names {
    char list[64][HISTORY_NAME_BYTES];
    int64_t id[64];
    int count;
};

static int collect(void *context, const struct history_run *r)
{
    struct names *n = context;
    memcpy(n->list[n->count], r->appliance, HISTORY_NAME_BYTES);
    n->id[n->count++] = r->id;
    return n->count == 64;
}

/* Newest first. */
static struct names history(struct world *w, const char *meter)
{
    struct names n = {.count = 0};
    assert_true(history_list(w->store, 0, INT64_MAX, meter, NULL, 64, collect, &n) >= 0);
    return n;
}

static void named_forward_and_backward(void **state)
{
    struct world w = open_world(state);
    int runs = 0;
    for (int k = 0; k < 5; k++)
        run(&w, "shed", k, EVENT_UNKNOWN, 1150, 100);
    run(&w, "shed", 5, EVENT_UNKNOWN, 70, 4000);
    run(&w, "shed", 6, "Kettle", 2000, 100); /* the network knows it */
    struct names n = history(&w, "shed");
    for (int i = 2; i < 7; i++)
        assert_string_equal(n.list[i], "unknown-1"); /* the first two, too, once it recurred */
    assert_string_equal(n.list[1], "unknown");
    assert_string_equal(n.list[0], "Kettle");

    assert_int_equal(
        place_store_name(w.store, NULL, "unknown-1", "heat pump", &runs, why, sizeof why), 0);
    assert_int_equal(runs, 5);
    close_world(&w);
    w = open_world(state); /* a restart: all of it is in the store */
    run(&w, "shed", 7, EVENT_UNKNOWN, 1150, 120);
    n = history(&w, "shed");
    assert_string_equal(n.list[0], "heat pump");
    for (int i = 3; i < 8; i++)
        assert_string_equal(n.list[i], "heat pump");

    /* The name was wrong. */
    assert_int_equal(
        place_store_name(w.store, "shed", "heat pump", "pool pump", &runs, why, sizeof why), 0);
    assert_int_equal(runs, 6);
    n = history(&w, "shed");
    assert_string_equal(n.list[0], "pool pump");
    close_world(&w);
}

static void a_run_is_corrected(void **state)
{
    struct world w = open_world(state);
    int runs = 0;
    for (int k = 0; k < 4; k++)
        run(&w, "shed", k, "Toaster", 800, 100); /* so the network says */
    struct names n = history(&w, "shed");
    assert_int_equal(place_store_correct(w.store, n.id[1], "waffle iron", &runs, why, sizeof why),
                     0);
    assert_int_equal(runs, 1);
    n = history(&w, "shed");
    assert_string_equal(n.list[0], "Toaster");
    assert_string_equal(n.list[1], "waffle iron");
    run(&w, "shed", 4, "Toaster", 800, 100); /* and its like from now on */
    run(&w, "shed", 5, "Toaster", 1600, 100);
    n = history(&w, "shed");
    assert_string_equal(n.list[1], "waffle iron");
    assert_string_equal(n.list[0], "Toaster");
    run(&w, "other", 6, "Toaster", 800, 100); /* another meter is another place */
    n = history(&w, "other");
    assert_string_equal(n.list[0], "Toaster");
    close_world(&w);
}

/* What is left of the power while the network tells a run by that name is no second one. */
static void leftovers_of_a_named_load(void **state)
{
    struct world w = open_world(state);
    int runs = 0;
    for (int k = 0; k < 3; k++)
        run(&w, "home", k, EVENT_UNKNOWN, 70, 3000);
    assert_int_equal(place_store_name(w.store, "home", "unknown-1", "TV", &runs, why, sizeof why),
                     0);
    run(&w, "home", 4, "TV", 75, 3400);
    run(&w, "home", 4, EVENT_UNKNOWN, 70, 3000);
    run(&w, "home", 5, EVENT_UNKNOWN, 70, 3000);
    struct names n = history(&w, "home");
    assert_int_equal(n.count, 6);
    int tv = 0;
    for (int i = 0; i < n.count; i++)
        tv += strcmp(n.list[i], "TV") == 0;
    assert_string_equal(n.list[0], "TV");
    assert_int_equal(tv, 5);
    close_world(&w);
}

static void what_cannot_be_named(void **state)
{
    struct world w = open_world(state);
    int runs = 0;
    for (int k = 0; k < 3; k++) {
        run(&w, "a", k, EVENT_UNKNOWN, 500, 100);
        run(&w, "b", k, EVENT_UNKNOWN, 500, 100);
    }
    static const char *const bad[] = {"", "unknown", "unknown-7", "a\nb"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(
            place_store_name(w.store, "a", "unknown-1", bad[i], &runs, why, sizeof why), -EINVAL);
    assert_int_equal(place_store_name(w.store, NULL, "unknown-1", "x", &runs, why, sizeof why),
                     -ENOTUNIQ);
    assert_int_equal(place_store_name(w.store, "a", "unknown-9", "x", &runs, why, sizeof why),
                     -ENOENT);
    assert_int_equal(place_store_name(w.store, NULL, "nobody", "x", &runs, why, sizeof why),
                     -ENOENT);
    assert_int_equal(place_store_correct(w.store, 999, "x", &runs, why, sizeof why), -ENOENT);
    assert_int_equal(place_store_name(w.store, "a", "unknown-1", "x", &runs, why, sizeof why), 0);
    assert_int_equal(runs, 3);
    close_world(&w);
}

static void damaged_bytes_begin_anew(void **state)
{
    struct world w = open_world(state);
    struct place p;
    for (int k = 0; k < 3; k++)
        run(&w, "a", k, EVENT_UNKNOWN, 500, 100);
    assert_int_equal(place_store_read(w.store, "a", &p), 0);
    assert_int_equal(places_put(w.store, "a", "rubbish", 7), 0);
    assert_int_equal(place_store_read(w.store, "a", &p), -ENOENT);
    run(&w, "a", 3, EVENT_UNKNOWN, 500, 100);
    assert_int_equal(place_store_read(w.store, "a", &p), 0);
    assert_int_equal(p.loads[0].runs, 1);
    close_world(&w);
}

static void signed_orders(void **state)
{
    struct world w = open_world(state);
    char key[256], ring[256], other[256], id[PKI_KEY_ID_BYTES], foreign_id[PKI_KEY_ID_BYTES];
    char signature[LABEL_SIGNATURE_HEX], foreign[LABEL_SIGNATURE_HEX];
    struct label_order o = {"gateway-1", T0 + 1000, "a", "unknown-1", "heat pump"};
    int runs = 0;
    snprintf(key, sizeof key, "%s", folder_path(state, "k.key"));
    snprintf(ring, sizeof ring, "%s", folder_path(state, "k.pub"));
    snprintf(other, sizeof other, "%s", folder_path(state, "o.key"));
    assert_int_equal(pki_make_key(key, ring, why, sizeof why), 0);
    assert_int_equal(pki_make_key(other, NULL, why, sizeof why), 0);
    assert_int_equal(label_sign(&o, key, id, signature, why, sizeof why), 0);
    assert_int_equal(label_verify(&o, ring, id, signature, why, sizeof why), 0);

    struct label_order changed[] = {o, o, o, o, o};
    changed[0].device = "gateway-2";
    changed[1].time_ms++;
    changed[2].meter = "";
    changed[3].what = "unknown-2";
    changed[4].name = "oven";
    for (int i = 0; i < 5; i++)
        assert_int_equal(label_verify(&changed[i], ring, id, signature, why, sizeof why),
                         -EKEYREJECTED);
    assert_int_equal(label_sign(&o, other, foreign_id, foreign, why, sizeof why), 0);
    assert_int_equal(label_verify(&o, ring, foreign_id, foreign, why, sizeof why), -ENOKEY);
    assert_int_equal(label_verify(&o, ring, id, foreign, why, sizeof why), -EKEYREJECTED);
    static const char *const bad[] = {"", "0", "zz", "AB"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(label_verify(&o, ring, id, bad[i], why, sizeof why) < 0);
    struct label_order lines = o;
    lines.name = "a\nb";
    assert_int_equal(label_sign(&lines, key, id, signature, why, sizeof why), -EINVAL);

    /* Each time once, and only forward; also after a restart. */
    assert_int_equal(label_take_time(w.store, &o, T0, why, sizeof why), 0);
    assert_int_equal(label_take_time(w.store, &o, T0, why, sizeof why), -ESTALE);
    close_world(&w);
    w = open_world(state);
    assert_int_equal(label_take_time(w.store, &o, T0, why, sizeof why), -ESTALE);
    o.time_ms += 2 * LABEL_AHEAD_MS;
    assert_int_equal(label_take_time(w.store, &o, T0, why, sizeof why), -EINVAL);
    assert_int_equal(label_take_time(w.store, &o, 0, why, sizeof why), 0); /* no clock */

    for (int k = 0; k < 3; k++)
        run(&w, "a", k, EVENT_UNKNOWN, 500, 100);
    assert_int_equal(label_apply(w.store, &o, &runs, why, sizeof why), 0);
    assert_int_equal(runs, 3);
    struct names n = history(&w, "a");
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)n.id[0]);
    o.what = number;
    o.name = "oven";
    assert_int_equal(label_apply(w.store, &o, &runs, why, sizeof why), 0);
    n = history(&w, "a");
    assert_string_equal(n.list[0], "oven");
    assert_string_equal(n.list[1], "heat pump");
    close_world(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {T(named_forward_and_backward), T(a_run_is_corrected),
                                       T(leftovers_of_a_named_load),  T(what_cannot_be_named),
                                       T(damaged_bytes_begin_anew),   T(signed_orders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
