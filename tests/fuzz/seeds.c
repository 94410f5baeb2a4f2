/* seeds.c - writes what the fuzzing programs begin with: DIR/TARGET/NAME, and dictionaries
 * DIR/TARGET.dict. Made by the product's own writers, so that they cannot grow old. */
#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "agent/config_keys.h"
#include "fuzz/fuzz.h"
#include "inference/lib_random_model.h"
#include "inference/workshop/onnx.h"
#include "transport/bundle.h"
#include "transport/topic.h"
#include "workshop/lib_onnx.h"

static const char *folder;

static void put(const char *target, const char *name, const void *data, size_t size)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, target);
    FUZZ_CHECK(mkdir(path, 0777) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

static void put_number(const char *target, unsigned number, const void *data, size_t size)
{
    char name[16];

    snprintf(name, sizeof name, "seed%u", number);
    put(target, name, data, size);
}

static void put_text(const char *target, unsigned number, const char *text)
{
    put_number(target, number, text, strlen(text));
}

/* Small models of either kind behind 64 bytes that choose the watts, some of them not numbers. */
static void models(void)
{
    static const float watts[14] = {0.0f,   60.0f,  2000.5f, 3.4e38f,         -3.4e38f,
                                    1e-45f, -20.0f, 1e9f,    (float)INFINITY, -(float)INFINITY,
                                    NAN,    100.0f, 7.5f,    2999.0f};
    unsigned made = 0;

    for (uint64_t seed = 1; made < 24; seed++) {
        struct model *m = random_model_create(seed, seed % 6 ? MODEL_INT8 : MODEL_FP32);
        unsigned char *bytes;
        size_t size;
        void *file;

        if (m->dtype == MODEL_INT8 && seed % 3 == 0)
            random_model_add_golden(m, seed, 1);
        FUZZ_CHECK(model_encode(m, &file, &size, NULL, 0) == 0);
        if (size < 8000) {
            bytes = calloc(1, 64 + size);
            FUZZ_CHECK(bytes);
            bytes[0] = (unsigned char)(seed * 5);
            memcpy(bytes + 8, watts, sizeof watts);
            memcpy(bytes + 64, file, size);
            put_number("model", made++, bytes, 64 + size);
            free(bytes);
        }
        free(file);
        random_model_free(m);
    }
}

static void networks(void)
{
    struct net *net = lib_onnx_random_net(MODEL_SOFTMAX, 1);
    struct pb graph = {0}, file;
    size_t size;
    void *data = lib_onnx_export_net(net, &size);
    uint64_t seed = 1;
    struct model *m = random_model_create(seed, MODEL_INT8);

    put("onnx", "softmax", data, size);
    free(data);
    net_free(net);
    net = lib_onnx_random_net(MODEL_SIGMOID, 2);
    data = lib_onnx_export_net(net, &size);
    put("onnx", "sigmoid", data, size);
    free(data);
    net_free(net);
    lib_onnx_all_operators(&graph);
    file = pb_onnx_model(&graph, 13);
    put("onnx", "operators", file.data, file.size);
    free(file.data);
    FUZZ_CHECK(onnx_export(m, &data, &size) == 0);
    put("onnx", "qdq", data, size);
    free(data);
    random_model_free(m);
}

static void traces(void)
{
    put_text("trace", 0,
             "\1"
             "13/05/2012 00:00:01;5;6\n13/05/2012 00:00:02;7;6\nx\n\n"
             "13/05/2012 00:02:02;900;6\r\n");
    put_text("trace", 1, "\2timestamp,watts\n2024-02-29T12:00:00.5+01:30,12.5e1\n1700000000,3\n");
    put_text("trace", 2,
             "\3time;\"power\";x\n\"2024-02-29 12:00:00Z\";-4;1\n1700000000123;1e-3;2\n");
    put_text("trace", 3,
             "\1"
             "0,1\n1.5,2\n99999,3\n100000,4\n");
    put_text("trace", 4, "\3dev_98ABAA_2011.12.01_CRT-TV.csv");
    put_text("trace", 5,
             "\61"
             "1700000000 55.5\n");
    put_text("trace", 6, "\3t,w\n5,1\n6,2\n");
}

static void bundles(void)
{
    static char labels[2][32] = {"Fridge", "K\xc3\xbc"
                                           "hler"};
    static const uint8_t signature[] = {0x30, 6, 2, 1, 1, 2, 1, 1};
    const struct bundle_manifest m = {.family = "identify",
                                      .version = 7,
                                      .name = "kitchen",
                                      .window = 512,
                                      .period_ms = 8000,
                                      .input_scaling = "log:4000 log_diff:4000",
                                      .min_agent = "0.1.0",
                                      .created_s = 1700000000,
                                      .expires_s = 4000000000,
                                      .allow_downgrade = 1,
                                      .label_count = 2,
                                      .labels = labels};
    void *data;
    uint8_t *with_signature;
    size_t size;
    char why[256] = "";

    FUZZ_CHECK(bundle_build(&m, "the model", 9, &data, &size, why, sizeof why) == 0);
    put("bundle", "unsigned", data, size);
    with_signature = malloc(size + sizeof signature);
    FUZZ_CHECK(with_signature);
    memcpy(with_signature, data, size);
    memcpy(with_signature + 20, "0123456789abcdef", 16);
    memcpy(with_signature + size, signature, sizeof signature);
    put("bundle", "signed", with_signature, size + sizeof signature);
    free(with_signature);
    free(data);
}

static void frames(void)
{
    static const uint8_t stream[] = {0, 20,   0,  1,   2,   3,   0x20, 2,   0,   0,   0x32,
                                     9, 0,    3,  'a', '/', 'b', 0,    1,   'h', 'i', 0xd0,
                                     0, 0x30, 50, 0,   3,   'b', 'i',  'g', 'p', 'p', 'p'};
    uint8_t large[600] = {1, 4, 7, 0, 200, 30, 0x32, 0xc8, 0x02, 0, 3, 'b', 'i', 'g', 0, 9, 0};

    put("frame", "small", stream, sizeof stream);
    put("frame", "large", large, sizeof large);
}

/* A value that key takes. */
static const char *example(const struct config_key *key, char *out, size_t size)
{
    static const char *const by_kind[] = {[CONFIG_STRING] = "x",
                                          [CONFIG_NAME] = "a",
                                          [CONFIG_TOPIC] = "a/b",
                                          [CONFIG_URL] = "mqtts://[::1]:1883",
                                          [CONFIG_COUNT] = "1000",
                                          [CONFIG_SIZE] = "1.5G",
                                          [CONFIG_DURATION] = "2m",
                                          [CONFIG_SECONDS] = "60",
                                          [CONFIG_NUMBER] = "2.5",
                                          [CONFIG_SPEED] = "max",
                                          [CONFIG_DATE] = "2026-01-05T06:00:00Z"};

    if (key->kind != CONFIG_CHOICE)
        return by_kind[key->kind];
    snprintf(out, size, "%.*s", (int)strcspn(key->choices, "="), key->choices);
    return out;
}

static void configurations(void)
{
    char text[8192] = "", choice[64], path[512];
    static const char two_files[] =
        "[device]\nid=a\n[meter:m]\ntype=stdin\n\0[meter:m]\non_w = 20 ; x\n";
    const char *section = "";
    size_t n = 0;
    FILE *dictionary;

    snprintf(path, sizeof path, "%s/config.dict", folder);
    dictionary = fopen(path, "w");
    FUZZ_CHECK(dictionary);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];

        fprintf(dictionary, "\"%s = %s\\x0a\"\n\"[%s]\\x0a\"\n", k->name,
                example(k, choice, sizeof choice), k->section);
        if (strcmp(k->section, "meter") == 0)
            continue;
        if (strcmp(section, k->section) != 0)
            n += (size_t)snprintf(text + n, sizeof text - n, "[%s]\n", k->section);
        section = k->section;
        n += (size_t)snprintf(text + n, sizeof text - n, "%s = %s\n", k->name,
                              example(k, choice, sizeof choice));
    }
    fprintf(dictionary, "\"\\x00\"\n\"[meter:b]\\x0atype = sim\\x0aappliance = fridge\\x0a\"\n");
    FUZZ_CHECK(fclose(dictionary) == 0);
    snprintf(text + n, sizeof text - n,
             "[meter:m]\ntype = replay\nfiles = a b\nspeed = max\nloop = yes\non_w = 15\n");
    put_text("config", 0, text);
    put_text("config", 1, "[device]\nid = gw-1\n[meter:m]\ntype = stdin\n");
    put("config", "drop-in", two_files, sizeof two_files - 1);
}

static void commands(void)
{
    put_text("command", 0, "{\"id\":\"a\",\"command\":\"ping\"}");
    put_text("command", 1, " {\"command\":\"status\",\"id\":\"b\"} \n");
    put_text("command", 2, "{\"id\":\"c\",\"command\":\"rollback\"}");
    put_text("command", 3,
             "{\"id\":\"d\",\"command\":\"forget\",\"meter\":\"m\",\"appliance\":\"Iron\\u00e4\"}");
    put_text("command", 4, "{\"id\":\"e\",\"command\":\"models\"}");
}

static void topics(void)
{
    char topic[TOPIC_BYTES + 2] = {0};

    for (int kind = TOPIC_EVENT; kind <= TOPIC_REPLY; kind++) {
        size_t n = 9;

        topic[0] = (char)kind;
        topic[1] = 7; /* so many bytes of base */
        memcpy(topic + 2, "nilm/v1", 7);
        FUZZ_CHECK(topic_build(topic + n, TOPIC_BYTES - n, "nilm/v1", (enum topic_kind)kind, "gw-1",
                               "kitchen") == 0);
        put_number("topic", (unsigned)kind, topic, n + strlen(topic + n));
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds DIR\n");
        return 1;
    }
    folder = argv[1];
    models();
    networks();
    traces();
    bundles();
    frames();
    configurations();
    commands();
    topics();
    return 0;
}
