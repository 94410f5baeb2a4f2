/* test_topic.c - topic names: SPEC 3. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/topic.h"

static void checks_names(void **state)
{
    (void)state;
    char longest[65];
    memset(longest, 'a', 64);
    longest[64] = '\0';
    assert_int_equal(topic_check_name(longest), -EINVAL);
    longest[63] = '\0';
    assert_int_equal(topic_check_name(longest), 0);
    const char *good[] = {"gw-1", "_agent", "A.b_c-9", "a"};
    const char *bad[] = {"", ".a", "-a", "a/b", "a+", "#", "a b", "group", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(topic_check_name(good[i]), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(topic_check_name(bad[i]), -EINVAL);
    assert_int_equal(topic_check_name(NULL), -EINVAL);
    assert_int_equal(topic_check_base("nilm/v1"), 0);
    assert_int_equal(topic_check_base("a/b/c"), 0);
    const char *bases[] = {"", "/", "a/", "/a", "a//b", "a/b/c/d", "a/+", "$SYS/#"};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++)
        assert_int_equal(topic_check_base(bases[i]), -EINVAL);
}

static void builds_and_parses(void **state)
{
    (void)state;
    static const struct {
        enum topic_kind kind;
        const char *meter, *text;
    } cases[] = {{TOPIC_EVENT, "kitchen", "nilm/v1/gw-1/event/kitchen"},
                 {TOPIC_ALERT, "_agent", "nilm/v1/gw-1/alert/_agent"},
                 {TOPIC_GAP, NULL, "nilm/v1/gw-1/gap"},
                 {TOPIC_REPORT, NULL, "nilm/v1/gw-1/report"},
                 {TOPIC_SUMMARY, "kitchen", "nilm/v1/gw-1/summary/kitchen"},
                 {TOPIC_STATUS, NULL, "nilm/v1/gw-1/status"},
                 {TOPIC_MODEL, NULL, "nilm/v1/gw-1/model"},
                 {TOPIC_PUSH, NULL, "nilm/v1/gw-1/push"},
                 {TOPIC_GROUP_PUSH, NULL, "nilm/v1/group/gw-1/push"},
                 {TOPIC_COMMAND, NULL, "nilm/v1/gw-1/command"},
                 {TOPIC_REPLY, NULL, "nilm/v1/gw-1/reply"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[TOPIC_BYTES];
        struct topic_parts parts;
        assert_int_equal(
            topic_build(text, sizeof text, "nilm/v1", cases[i].kind, "gw-1", cases[i].meter), 0);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(topic_build(text, strlen(cases[i].text), "nilm/v1", cases[i].kind, "gw-1",
                                     cases[i].meter),
                         -ENOSPC);
        assert_int_equal(topic_parse(cases[i].text, "nilm/v1", &parts), 0);
        assert_int_equal(parts.kind, cases[i].kind);
        assert_string_equal(parts.name, "gw-1");
        assert_string_equal(parts.meter, cases[i].meter ? cases[i].meter : "");
    }
    char text[TOPIC_BYTES];
    assert_int_equal(topic_build(text, sizeof text, "n", TOPIC_EVENT, "gw", NULL), -EINVAL);
    assert_int_equal(topic_build(text, sizeof text, "n", TOPIC_GAP, "group", NULL), -EINVAL);
    assert_int_equal(topic_build(text, sizeof text, "n", (enum topic_kind)99, "gw", NULL), -EINVAL);
}

static void refuses_strangers(void **state)
{
    (void)state;
    const char *bad[] = {"",
                         "nilm/v1",
                         "nilm/v1/",
                         "nilm/v1/gw",
                         "nilm/v1/gw/",
                         "nilm/v1/gw/event",
                         "nilm/v1/gw/event/",
                         "nilm/v1/gw/event/a/",
                         "nilm/v1/gw/event/a/b",
                         "nilm/v1/gw/gap/",
                         "nilm/v1/gw/gap/x",
                         "nilm/v1/gw/what",
                         "nilm/v2/gw/gap",
                         "nilm/v10/gw/gap",
                         "nilm/v1/group/push",
                         "nilm/v1/group/g/push/x",
                         "nilm/v1/group/group/push",
                         "nilm/v1/group/g/model",
                         "nilm/v1//gap",
                         "nilm/v1/+/gap",
                         "nilm/v1/gw/command/"};
    struct topic_parts parts;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (topic_parse(bad[i], "nilm/v1", &parts) != -EBADMSG)
            fail_msg("accepted: %s", bad[i]);
}

/* Any bytes: refused, or built again to the same text. */
static void survives_mutations(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int i = 0; i < 20000; i++) {
        char text[] = "nilm/v1/gw-1/event/kitchen", again[TOPIC_BYTES];
        struct topic_parts p;
        for (int k = 0; k < 3; k++)
            text[(size_t)rand_r(&seed) % (sizeof text - 1)] = "/a.-_#+\1\xff"[rand_r(&seed) % 9];
        if (topic_parse(text, "nilm/v1", &p) != 0)
            continue;
        assert_int_equal(topic_build(again, sizeof again, "nilm/v1", p.kind, p.name, p.meter), 0);
        assert_string_equal(text, again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_names),
        cmocka_unit_test(builds_and_parses),
        cmocka_unit_test(refuses_strangers),
        cmocka_unit_test(survives_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
