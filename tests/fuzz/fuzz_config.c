/* fuzz_config.c - the configuration and a drop-in: refused with file and reason, or complete and
 * within bounds. A zero byte in the input ends the main file and begins the drop-in. */
#include "agent/config.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"
#include "transport/topic.h"

static char folder[] = "/tmp/nilm-fuzz-XXXXXX", file[64], drop_in[64];

static void clean_up(void)
{
    unlink(file);
    unlink(drop_in);
    snprintf(drop_in, sizeof drop_in, "%s/conf.d", folder);
    rmdir(drop_in);
    rmdir(folder);
}

static void prepare(void)
{
    if (file[0])
        return;
    FUZZ_CHECK(mkdtemp(folder));
    snprintf(drop_in, sizeof drop_in, "%s/conf.d", folder);
    FUZZ_CHECK(mkdir(drop_in, 0700) == 0);
    snprintf(drop_in, sizeof drop_in, "%s/conf.d/a.conf", folder);
    snprintf(file, sizeof file, "%s/nilmd.conf", folder);
    atexit(clean_up);
}

static void put(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    FUZZ_CHECK(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size));
    close(fd);
}

static void check_config(const struct config *c)
{
    FUZZ_CHECK(topic_check_name(c->device) == 0 && topic_check_base(c->base) == 0);
    FUZZ_CHECK(!c->group[0] || topic_check_name(c->group) == 0);
    FUZZ_CHECK(c->data_dir[0] && c->meter_count <= CONFIG_METERS);
    FUZZ_CHECK(!c->broker_host[0] || (c->ca[0] && c->broker_port));
    FUZZ_CHECK(!c->cert[0] == !c->key[0]);
    for (size_t i = 0; i < c->meter_count; i++) {
        const struct config_meter *m = &c->meters[i];

        FUZZ_CHECK(topic_check_name(m->meter.name) == 0);
        FUZZ_CHECK(m->source.type >= SOURCE_REPLAY && m->source.type <= SOURCE_SIM);
        FUZZ_CHECK(isfinite(m->meter.on_w) && m->meter.off_w < m->meter.on_w);
        for (size_t k = 0; k < i; k++)
            FUZZ_CHECK(strcmp(m->meter.name, c->meters[k].meter.name) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t first = zero ? (size_t)(zero - data) : size;
    struct config *c;
    char why[512] = "";
    int rc;

    prepare();
    put(file, data, first);
    if (zero)
        put(drop_in, zero + 1, size - first - 1);
    else
        unlink(drop_in);
    rc = config_load(file, &c, why, sizeof why);
    if (rc == 0) {
        check_config(c);
        config_free(c);
    } else {
        FUZZ_CHECK(rc < 0 && strstr(why, folder));
    }
    return 0;
}
