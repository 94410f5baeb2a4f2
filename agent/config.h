/* config.h - the agent's configuration (SPEC.md section 6): read, checked, defaults filled in.
 *
 * Every error names file and line, section and key, and what was expected. Nothing is guessed:
 * unknown sections and keys, a key given twice in one file, a last line without its line end (a
 * half-written file) and bytes that are not text are errors. The table of keys is in config_keys.h.
 */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "agent/machine.h"
#include "agent/meter.h"
#include "agent/shift.h"
#include "agent/source.h"

#define CONFIG_TEXT 512
#define CONFIG_METERS 64
#define CONFIG_BROKERS 8
#define CONFIG_MAX_BYTES (1u << 20) /* of one file */
#define CONFIG_MAX_FILES 64         /* the main file and its drop-ins */

struct config_meter {
    struct meter_config meter;
    struct source_config source; /* strings point into the text below */
    int teach;                   /* several machines on this feed, to be taught */
    char files[2048], column[64], appliance[CONFIG_TEXT], truth[CONFIG_TEXT];
    struct machine_config machine;
    char states[64];          /* as written; machine has it */
    char record[CONFIG_TEXT]; /* folder of recordings; "": none */
    int64_t record_days;
    char columns[256]; /* of three phases, separated by blanks, then by line ends */
};

struct config_broker {
    char host[256];
    uint16_t port;
};

struct config {
    char device[64], group[64], data_dir[CONFIG_TEXT];
    char timezone[64]; /* calendar.h; "": the system's */
    /* broker_host "": no broker, the agent works locally. Other empty strings: not given. */
    char broker_host[256], server_name[256], ca[CONFIG_TEXT], cert[CONFIG_TEXT], key[CONFIG_TEXT];
    char username[128], password_file[CONFIG_TEXT], base[128];
    uint16_t broker_port;
    struct config_broker more_brokers[CONFIG_BROKERS - 1]; /* up to the first without a host */
    int64_t fail_back_ms, expiry_warning_ms, clock_wait_ms;
    int protocol; /* 0 auto, 4, 5 */
    int keepalive_s;
    char model_file[CONFIG_TEXT], mains_file[CONFIG_TEXT], model_keys[CONFIG_TEXT];
    uint64_t outbox_rows, outbox_bytes;
    int64_t outbox_age_ms, history_runs;
    int64_t drain_rate;                     /* replayed items a second; 0: no limit */
    char currency[16], tariff[CONFIG_TEXT]; /* periods.h */
    double price;                           /* of a kWh */
    int daily_summary;
    int log_level;                          /* enum log_level */
    size_t meter_count, shift_count;
    struct shift shifts[SHIFT_MAX]; /* in the order of their first appearance */
    struct config_meter *meters;    /* in the order of their first appearance */
};

/* Reads path and conf.d/ *.conf beside it (in name order, later files override). 0, or -errno with
 * file, line, key and what was expected in why. The result is to be released with config_free. Main
 * thread only (inih has global settings). */
int config_load(const char *path, struct config **out, char *why, size_t why_size);
void config_free(struct config *c);

#endif
