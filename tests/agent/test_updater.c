/* test_updater.c - who may replace the model, and what happens otherwise (SPEC 4.5, 4.7, 4.8); real
 * signed bundles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/lib_bundle.h"
#include "agent/lib_folder.h"
#include "agent/updater.h"
#include "lib/small_model.h"
#include "storage/outbox.h"
#include "transport/pki.h"

struct world {
    void **state;
    char db[256], slots[256], keys[256], signer[256], foreign[256], model_file[256];
    struct store *store;
    struct journal *journal;
    struct updater *updater;
    const struct engine *running; /* what the meters have */
    int swaps, refuse_swap;
    char announced[8][1024];
    int announced_count;
};

static char why[320];

static int swap(void *context, const struct engine *engine)
{
    struct world *w = context;
    if (w->refuse_swap)
        return -ENOMEM;
    w->running = engine;
    w->swaps++;
    return 0;
}

static void announce(void *context, const char *text)
{
    struct world *w = context;
    snprintf(w->announced[w->announced_count++ % 8], sizeof w->announced[0], "%s", text);
}

static const char *last_announced(const struct world *w)
{
    return w->announced_count ? w->announced[(w->announced_count - 1) % 8] : "";
}

/* Starts as the agent does. */
static void life(struct world *w)
{
    int64_t epoch;
    assert_int_equal(store_open(w->db, &w->store, NULL, why, sizeof why), 0);
    assert_int_equal(outbox_start(w->store, 1790000000, &epoch), 0);
    assert_int_equal(journal_create(w->store, NULL, NULL, &w->journal), 0);
    const struct updater_config config = {"gw",       w->slots, w->model_file, w->keys,  w->store,
                                          w->journal, w,        swap,          announce, 0};
    assert_int_equal(updater_create(&config, &w->updater, why, sizeof why), 0);
    w->announced_count = w->swaps = 0;
    updater_start(w->updater);
    w->running = updater_engine(w->updater);
}

static void death(struct world *w)
{
    updater_destroy(w->updater);
    journal_destroy(w->journal);
    store_close(w->store);
}

static struct world *begin(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->state = state;
    snprintf(w->db, sizeof w->db, "%s", folder_path(state, "nilmd.db"));
    snprintf(w->slots, sizeof w->slots, "%s", folder_path(state, "models"));
    snprintf(w->keys, sizeof w->keys, "%s", folder_path(state, "keys"));
    snprintf(w->signer, sizeof w->signer, "%s", folder_path(state, "signer.key"));
    snprintf(w->foreign, sizeof w->foreign, "%s", folder_path(state, "foreign.key"));
    mkdir(w->keys, 0700);
    assert_int_equal(
        pki_make_key(w->signer, folder_path(state, "keys/signer.pub"), why, sizeof why), 0);
    assert_int_equal(pki_make_key(w->foreign, NULL, why, sizeof why), 0);
    life(w);
    return w;
}

static void end(struct world *w)
{
    death(w);
    free(w);
}

/* Pushes bytes (taken). */
static int push_bytes(struct world *w, void *data, size_t size)
{
    struct candidate *c = candidate_check(data, size, w->keys, 1790000000);
    assert_non_null(c);
    return updater_apply(w->updater, c);
}

static int push(struct world *w, struct bundle_plan plan)
{
    void *data;
    size_t size;
    if (!plan.key)
        plan.key = w->signer;
    bundle_make(&plan, &data, &size);
    return push_bytes(w, data, size);
}

static uint32_t version(const struct world *w)
{
    return w->running ? engine_model(w->running)->version : 0;
}

/* Number of reports in the outbox that contain both texts. */
static int reports(struct world *w, const char *a, const char *b)
{
    static char buffer[65536];
    struct outbox_item items[32];
    int found = 0;
    const int n = outbox_fetch(w->store, 1, 0, items, 32, buffer, sizeof buffer);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++)
        found +=
            items[i].kind == OUTBOX_REPORT && strstr(items[i].body, a) && strstr(items[i].body, b);
    return found;
}

static int alerts(struct world *w, const char *a, const char *b)
{
    static char buffer[65536];
    struct outbox_item items[32];
    int found = 0;
    const int n = outbox_fetch(w->store, 2, 0, items, 32, buffer, sizeof buffer);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++)
        found += strstr(items[i].body, a) && strstr(items[i].body, b) &&
                 strcmp(items[i].channel, "_agent") == 0;
    return found;
}

static void a_better_model_takes_over(void **state)
{
    struct world *w = begin(state);
    assert_null(w->running);
    assert_non_null(
        strstr(last_announced(w), "\"state\":\"idle\",\"family\":\"identify\",\"version\":0"));
    assert_int_equal(push(w, (struct bundle_plan){.version = 7}), 0);
    assert_int_equal(version(w), 7);
    assert_non_null(strstr(w->announced[1], "\"verified\""));
    assert_non_null(strstr(w->announced[2], "\"staged\""));
    assert_non_null(
        strstr(last_announced(w),
               "\"state\":\"active\",\"family\":\"identify\",\"version\":7,\"name\":\"small 7\""));
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}), 0);
    assert_int_equal(version(w), 8);
    assert_int_equal(
        reports(w, "\"active\",\"family\":\"identify\",\"version\":7,\"from_version\":0", ""), 1);
    assert_int_equal(
        reports(w, "\"active\",\"family\":\"identify\",\"version\":8,\"from_version\":7", ""), 1);
    death(w);
    life(w); /* still there after a restart, and not reported again */
    assert_int_equal(version(w), 8);
    assert_non_null(
        strstr(last_announced(w), "\"state\":\"active\",\"family\":\"identify\",\"version\":8"));
    assert_int_equal(reports(w, "\"version\":8", ""), 1);
    end(w);
}

static void redelivery_changes_nothing(void **state)
{
    struct world *w = begin(state);
    void *data, *copy;
    size_t size;
    bundle_make(&(struct bundle_plan){.version = 7, .key = w->signer}, &data, &size);
    for (int i = 0; i < 3; i++) {
        copy = malloc(size);
        memcpy(copy, data, size);
        assert_int_equal(push_bytes(w, copy, size), 0);
        assert_non_null(strstr(last_announced(w),
                               "\"state\":\"active\",\"family\":\"identify\",\"version\":7"));
    }
    free(data);
    assert_int_equal(w->swaps, 1);
    assert_int_equal(reports(w, "\"version\":7", ""), 1);
    /* The same version with another content is another model. */
    assert_int_equal(push(w, (struct bundle_plan){.version = 7, .swapped = 1}), -ESTALE);
    assert_int_equal(w->swaps, 1);
    end(w);
}

static const struct {
    struct bundle_plan plan;
    int foreign;
    const char *reason;
} refusals[] = {
    {{.version = 6}, 0, "version: is 6, expected more than 7"},
    {{.version = 7, .swapped = 1}, 0, "version: is 7, expected more than 7"},
    {{.version = 8}, 1, "signature: "},
    {{.version = 8, .family = "separate"},
     0,
     "family: is \\\"separate\\\", expected \\\"identify\\\""},
    {{.version = 8, .said_family = "other"}, 0, "manifest: family is \\\"other\\\""},
    {{.version = 8, .said_version = 9}, 0, "manifest: version is 9, the model's is 8"},
    {{.version = 8, .said_window = 17}, 0, "manifest: window is 17 of 8000 ms, the model's is 16"},
    {{.version = 8, .said_scaling = "log:4000"},
     0,
     "manifest: input_scaling is \\\"log:4000\\\", the model's is \\\"linear:2550\\\""},
    {{.version = 8, .said_label = "Toaster"},
     0,
     "manifest: label 0 is \\\"Toaster\\\", the model's is \\\"Low\\\""},
    {{.version = 8, .min_agent = "99.0.0"},
     0,
     "min_agent: needs agent 99.0.0 or newer, this is 0.1.0"},
    {{.version = 8, .expires_s = 1789990000}, 0, "expires: the bundle expired 2 h ago"},
    {{.version = 8, .no_golden = 1},
     0,
     "golden vectors: the model has none, expected at least one"},
    {{.version = 8, .wrong_golden = 1},
     0,
     "golden vectors: 1 of 2 do not reproduce on this device"},
};

static void everything_else_is_refused(void **state)
{
    struct world *w = begin(state);
    assert_int_equal(push(w, (struct bundle_plan){.version = 7}), 0);
    const struct engine *before = w->running;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct bundle_plan plan = refusals[i].plan;
        plan.key = refusals[i].foreign ? w->foreign : w->signer;
        assert_true(push(w, plan) < 0);
        if (!strstr(last_announced(w), refusals[i].reason))
            fail_msg("announced %s, expected \"%s\"", last_announced(w), refusals[i].reason);
        assert_non_null(strstr(last_announced(w), "\"state\":\"refused\""));
        if (reports(w, "\"state\":\"refused\"", refusals[i].reason) != 1)
            fail_msg("no single report of \"%s\"", refusals[i].reason);
        assert_ptr_equal(w->running, before);
        assert_int_equal(w->swaps, 1);
    }
    death(w);
    life(w); /* nothing of them was kept */
    assert_int_equal(version(w), 7);
    end(w);
}

static void damaged_bundles_are_refused(void **state)
{
    struct world *w = begin(state);
    void *data, *copy;
    size_t size;
    assert_int_equal(push(w, (struct bundle_plan){.version = 7}), 0);
    bundle_make(&(struct bundle_plan){.version = 8, .key = w->signer}, &data, &size);
    for (size_t byte = 0; byte < size; byte += byte < 600 ? 7 : 101) { /* one bit anywhere */
        copy = malloc(size);
        memcpy(copy, data, size);
        ((unsigned char *)copy)[byte] ^= (unsigned char)(1u << (byte % 8));
        if (push_bytes(w, copy, size) == 0)
            fail_msg("accepted with a flipped bit in byte %zu", byte);
        assert_non_null(strstr(last_announced(w), "refused"));
    }
    for (size_t cut = 0; cut < size;
         cut += cut < 64 ? 1 : 97) { /* truncated; an exact allocation shows over-reads */
        copy = malloc(cut ? cut : 1);
        memcpy(copy, data, cut);
        assert_true(push_bytes(w, copy, cut) < 0);
    }
    copy = calloc(1, CANDIDATE_MAX_BYTES + 1); /* huge */
    memcpy(copy, data, size);
    assert_int_equal(push_bytes(w, copy, CANDIDATE_MAX_BYTES + 1), -EFBIG);
    free(data);
    bundle_make(&(struct bundle_plan){.version = 8}, &data, &size); /* unsigned */
    assert_int_equal(push_bytes(w, data, size), -EKEYREJECTED);
    assert_int_equal(version(w), 7);
    assert_int_equal(w->swaps, 1);
    end(w);
}

static void without_a_key_ring_nothing_is_accepted(void **state)
{
    struct world *w = begin(state);
    void *data;
    size_t size;
    bundle_make(&(struct bundle_plan){.version = 7, .key = w->signer}, &data, &size);
    w->keys[0] = '\0';
    assert_int_equal(push_bytes(w, data, size), -ENOKEY);
    assert_non_null(strstr(last_announced(w), "no key ring"));
    end(w);
}

static void downgrade_needs_a_signed_order(void **state)
{
    struct world *w = begin(state);
    assert_int_equal(push(w, (struct bundle_plan){.version = 9}), 0);
    assert_int_equal(push(w, (struct bundle_plan){.version = 5}), -ESTALE);
    assert_int_equal(push(w, (struct bundle_plan){.version = 5, .allow_downgrade = 1}), 0);
    assert_int_equal(version(w), 5);
    /* The highest ever seen still counts. */
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}), -ESTALE);
    assert_int_equal(push(w, (struct bundle_plan){.version = 10}), 0);
    end(w);
}

static void no_memory_for_the_swap_keeps_the_old(void **state)
{
    struct world *w = begin(state);
    assert_int_equal(push(w, (struct bundle_plan){.version = 7}), 0);
    w->refuse_swap = 1;
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}), -ENOMEM);
    w->refuse_swap = 0;
    assert_int_equal(version(w), 7);
    death(w);
    life(w);
    assert_int_equal(version(w), 7);
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}),
                     0); /* nothing stands in the way later */
    end(w);
}

static void roll_back_returns_to_the_previous(void **state)
{
    struct world *w = begin(state);
    assert_int_equal(updater_rollback(w->updater, why, sizeof why), -ENOENT);
    assert_string_equal(why, "there is no previous model to return to");
    assert_int_equal(push(w, (struct bundle_plan){.version = 7}), 0);
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}), 0);
    assert_int_equal(updater_rollback(w->updater, why, sizeof why), 0);
    assert_int_equal(version(w), 7);
    assert_int_equal(
        reports(w, "\"rolled_back\",\"family\":\"identify\",\"version\":7,\"from_version\":8", ""),
        1);
    death(w);
    life(w);
    assert_int_equal(version(w), 7);
    assert_int_equal(reports(w, "\"active\",\"family\":\"identify\",\"version\":7", ""),
                     1); /* of the first push, none of the start */
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}), -ESTALE); /* it was seen */
    end(w);
}

/* Damages the bundle of a slot on disk. */
static void damage(struct world *w, char slot)
{
    char name[32];
    snprintf(name, sizeof name, "models/%c.bundle", slot);
    FILE *f = fopen(folder_path(w->state, name), "r+b");
    assert_non_null(f);
    fseek(f, -200, SEEK_END);
    fputc(0x55, f);
    fputc(0xaa, f);
    fclose(f);
}

static void a_broken_slot_falls_back(void **state)
{
    struct world *w = begin(state);
    void *data;
    size_t size;
    struct updater_info info;
    assert_int_equal(push(w, (struct bundle_plan){.version = 7}), 0);
    assert_int_equal(push(w, (struct bundle_plan){.version = 8}), 0);
    updater_get_info(w->updater, &info);
    death(w);
    damage(w, info.slots.active);
    life(w);
    assert_int_equal(version(w), 7);
    assert_int_equal(alerts(w, "model_failed", "raised"), 1);
    death(w);
    damage(w, info.slots.previous);
    small_model_encode(3, 0, 2, 0, &data, &size);
    folder_write(state, "shipped.nilm", data, size);
    free(data);
    snprintf(w->model_file, sizeof w->model_file, "%s", folder_path(state, "shipped.nilm"));
    life(w);
    assert_int_equal(version(w), 3);
    assert_non_null(strstr(last_announced(w), "\"idle\",\"family\":\"identify\",\"version\":3"));
    assert_int_equal(push(w, (struct bundle_plan){.version = 8, .swapped = 1}),
                     -ESTALE); /* 8 was seen */
    assert_int_equal(push(w, (struct bundle_plan){.version = 9}), 0);
    assert_int_equal(alerts(w, "model_failed", "cleared"), 1);
    end(w);
}

static void configured_files_of_every_kind(void **state)
{
    static const struct {
        const char *content, *seen;
    } bad[] = {{"", "expected"},
               {"NILB", "bundle"},
               {"\x7f"
                "ELF",
                "model: "},
               {"half", "model: "}};
    struct world *w = begin(state);
    void *data;
    size_t size;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        death(w);
        folder_text(state, "shipped.nilm", bad[i].content);
        snprintf(w->model_file, sizeof w->model_file, "%s", folder_path(state, "shipped.nilm"));
        life(w);
        assert_null(w->running); /* meters go on, as unknown */
        assert_int_equal(alerts(w, "model_failed", "shipped.nilm"), (int)i + 1);
    }
    death(w);
    small_model_encode(3, 0, 2, 1, &data, &size); /* golden vectors do not reproduce */
    folder_write(state, "shipped.nilm", data, size);
    free(data);
    life(w);
    assert_null(w->running);
    death(w);
    bundle_make(&(struct bundle_plan){.version = 4, .key = w->signer}, &data, &size);
    folder_write(state, "shipped.nilm", data, size);
    free(data);
    life(w);
    assert_int_equal(version(w), 4);
    death(w);
    snprintf(w->model_file, sizeof w->model_file, "%s", (const char *)*state); /* a folder */
    life(w);
    assert_null(w->running);
    end(w);
}

/* Killed between the activation and its report: the next start makes up for it. */
static void a_lost_report_is_made_up(void **state)
{
    struct world *w = begin(state);
    void *data;
    size_t size;
    int repaired;
    struct slots *s;
    death(w);
    bundle_make(&(struct bundle_plan){.version = 7, .key = w->signer}, &data, &size);
    assert_int_equal(slots_open(w->slots, &s, &repaired, why, sizeof why), 0);
    assert_int_equal(slots_stage(s, data, size, why, sizeof why), 0);
    assert_int_equal(slots_activate(s, 7, why, sizeof why), 0);
    slots_close(s);
    free(data);
    life(w);
    assert_int_equal(version(w), 7);
    assert_int_equal(reports(w, "\"active\",\"family\":\"identify\",\"version\":7", ""), 1);
    death(w);
    life(w);
    assert_int_equal(reports(w, "\"active\",\"family\":\"identify\",\"version\":7", ""), 1);
    end(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_better_model_takes_over),
        TEST(redelivery_changes_nothing),
        TEST(everything_else_is_refused),
        TEST(damaged_bundles_are_refused),
        TEST(without_a_key_ring_nothing_is_accepted),
        TEST(downgrade_needs_a_signed_order),
        TEST(no_memory_for_the_swap_keeps_the_old),
        TEST(roll_back_returns_to_the_previous),
        TEST(a_broken_slot_falls_back),
        TEST(configured_files_of_every_kind),
        TEST(a_lost_report_is_made_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
