/* config.h - the agent's configuration (SPEC.md section 6): read, checked, defaults filled in. */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "agent/meter.h"
#include "agent/source.h"

#define CONFIG_TEXT 512
#define CONFIG_METERS 64

struct config_meter {
    struct meter_config meter;
    struct source_config source; /* strings point into text below */
    char files[2048], column[64], appliance[64], truth[CONFIG_TEXT];
};

struct config {
    char device[64], group[64], data_dir[CONFIG_TEXT];
    char broker_host[256], server_name[256], ca[CONFIG_TEXT], cert[CONFIG_TEXT], key[CONFIG_TEXT];
    char username[128], password_file[CONFIG_TEXT], base[128];
    uint16_t broker_port;
    int protocol; /* 0 auto, 4, 5 */
    int keepalive_s;
    char model_file[CONFIG_TEXT], model_keys[CONFIG_TEXT];
    uint64_t outbox_rows, outbox_bytes;
    int64_t outbox_age_ms, history_runs;
    int log_level; /* 0 error .. 3 debug */
    size_t meter_count;
    struct config_meter *meters;
};

/* Reads path and conf.d/ *.conf beside it. 0, or -errno with file, line, key and what was expected in why. The result is to be
 * released with config_free. */
int config_load(const char *path, struct config **out, char *why, size_t why_size);
void config_free(struct config *c);

#endif
