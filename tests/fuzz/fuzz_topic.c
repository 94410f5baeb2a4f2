/* fuzz_topic.c - topics: what is taken apart is put together again to the same text, and names that
 * are accepted hold nothing that MQTT gives a meaning. */
#include "transport/topic.h"

#include "fuzz/fuzz.h"

static void check_parse(const char *topic, const char *base)
{
    struct topic_parts parts;
    char again[TOPIC_BYTES];
    int meter;

    if (topic_parse(topic, base, &parts) != 0)
        return;
    meter = parts.kind == TOPIC_EVENT || parts.kind == TOPIC_ALERT || parts.kind == TOPIC_SUMMARY;
    FUZZ_CHECK(topic_check_name(parts.name) == 0);
    FUZZ_CHECK(!meter || topic_check_name(parts.meter) == 0);
    FUZZ_CHECK(topic_build(again, sizeof again, base, parts.kind, parts.name,
                           meter ? parts.meter : NULL) == 0);
    FUZZ_CHECK(strcmp(again, topic) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t kind = fuzz_byte(&data, &size), split = fuzz_byte(&data, &size);
    size_t first = split < size ? split : size;
    char *base = fuzz_text(data, first), *topic = fuzz_text(data + first, size - first);
    char out[TOPIC_BYTES];

    check_parse(topic, "nilm/v1");
    if (topic_check_base(base) == 0) {
        FUZZ_CHECK(!strpbrk(base, "+#$\n ") && base[0] != '/' && strlen(base) < TOPIC_BYTES);
        check_parse(topic, base);
    }
    if (topic_check_name(topic) == 0)
        FUZZ_CHECK(!strpbrk(topic, "+#/\n ") && strlen(topic) < TOPIC_NAME_BYTES);
    for (size_t room = 0; room <= sizeof out; room += room < 40 ? 13 : 54) {
        char *exact = malloc(room ? room : 1);

        FUZZ_CHECK(exact);
        if (topic_build(exact, room, base, (enum topic_kind)(kind % 12), topic, topic) == 0)
            FUZZ_CHECK(strlen(exact) < room);
        free(exact);
    }
    free(base);
    free(topic);
    return 0;
}
