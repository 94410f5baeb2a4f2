#include "agent/config_keys.h"

#include <string.h>

#include "agent/config.h"

#define FIELD(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)
#define METER(member)                                                                              \
    offsetof(struct config_meter, member), sizeof(((struct config_meter *)0)->member)

#define MS_DAY 86400000.0
#define NO_YES "no=0 yes=1 false=0 true=1 off=0 on=1 0=0 1=1"

/* clang-format off */
const struct config_key config_keys[] = {
    {"device", "id", CONFIG_NAME, FIELD(device), NULL, 0, 0, NULL, 0, "name of this device, part of every topic; required"},
    {"device", "group", CONFIG_NAME, FIELD(group), NULL, 0, 0, NULL, 0, "group whose push topic is followed too"},
    {"device", "data_dir", CONFIG_STRING, FIELD(data_dir), "/var/lib/nilmd", 0, 0, NULL, 0, "database, model slots, control socket"},
    {"device", "timezone", CONFIG_STRING, FIELD(timezone), NULL, 0, 0, NULL, 0, "of reports, shifts, tariffs, summaries and routines, such as Europe/Berlin; without it the system's"},
    {"device", "clock_wait", CONFIG_DURATION, FIELD(clock_wait_ms), "2m", 0, MS_DAY, NULL, 0, "so long after boot, and with a broker but no clock, the clock may still be set"},

    {"broker", "url", CONFIG_URL, FIELD(broker_host), NULL, 0, 0, NULL, 0, "mqtts://HOST[:8883], up to 8 in the order of preference, separated by blanks; without it the agent works locally"},
    {"broker", "ca", CONFIG_STRING, FIELD(ca), NULL, 0, 0, NULL, 0, "PEM file of the authorities trusted; required with url"},
    {"broker", "cert", CONFIG_STRING, FIELD(cert), NULL, 0, 0, NULL, 0, "PEM file of the device's certificate"},
    {"broker", "key", CONFIG_STRING, FIELD(key), NULL, 0, 0, NULL, 0, "PEM file of its private key"},
    {"broker", "server_name", CONFIG_STRING, FIELD(server_name), NULL, 0, 0, NULL, 0, "name in the broker's certificate, when it differs from HOST"},
    {"broker", "username", CONFIG_STRING, FIELD(username), NULL, 0, 0, NULL, 0, "MQTT user name"},
    {"broker", "password_file", CONFIG_STRING, FIELD(password_file), NULL, 0, 0, NULL, 0, "file whose first line is the MQTT password"},
    {"broker", "base", CONFIG_TOPIC, FIELD(base), "nilm/v1", 0, 0, NULL, 0, "first levels of every topic"},
    {"broker", "protocol", CONFIG_CHOICE, FIELD(protocol), "auto", 0, 0, "auto=0 5=5 3.1.1=4", 0, "auto, 5 or 3.1.1: MQTT version"},
    {"broker", "keepalive", CONFIG_SECONDS, FIELD(keepalive_s), "30s", 5, 3600, NULL, 0, "MQTT keep-alive"},
    {"broker", "fail_back", CONFIG_DURATION, FIELD(fail_back_ms), "15m", 5000, 30 * MS_DAY, NULL, 0, "so long at another broker, the first is tried again"},
    {"broker", "expiry_warning", CONFIG_DURATION, FIELD(expiry_warning_ms), "30d", 0, 3650 * MS_DAY, NULL, 0, "so long before a certificate ends: alert"},

    {"model", "file", CONFIG_STRING, FIELD(model_file), NULL, 0, 0, NULL, 0, "model or bundle used until a pushed model is active"},
    {"model", "keys", CONFIG_STRING, FIELD(model_keys), NULL, 0, 0, NULL, 0, "key ring: folder of *.pub, or one file; without it every push is refused"},
    {"model", "mains_file", CONFIG_STRING, FIELD(mains_file), NULL, 0, 0, NULL, 0, "the same for meters of kind mains"},

    {"outbox", "max_rows", CONFIG_COUNT, FIELD(outbox_rows), "1000000", 100, 1e9, NULL, 0, "waiting items kept at most"},
    {"outbox", "max_bytes", CONFIG_SIZE, FIELD(outbox_bytes), "256M", 65536, 1e12, NULL, 0, "their bytes"},
    {"outbox", "max_age", CONFIG_DURATION, FIELD(outbox_age_ms), "90d", 60000, 3650 * MS_DAY, NULL, 0, "their age"},
    {"outbox", "drain_rate", CONFIG_COUNT, FIELD(drain_rate), "1000", 0, 1e6, NULL, 0, "replayed items sent in a second at most; 0: no limit"},

    {"history", "max_runs", CONFIG_COUNT, FIELD(history_runs), "100000", 100, 1e8, NULL, 0, "finished runs kept"},

    {"meter", "type", CONFIG_CHOICE, METER(source.type), NULL, 0, 0, "replay=1 stdin=2 sim=3", CONFIG_ANY, "replay, stdin or sim; required"},
    {"meter", "kind", CONFIG_CHOICE, METER(meter.mains), "circuit", 0, 0, "circuit=0 mains=1", CONFIG_ANY, "circuit: one load behind the meter; mains: the sum of several"},
    {"meter", "report_every", CONFIG_DURATION, METER(meter.report_ms), "0s", 0, 7 * MS_DAY, NULL, CONFIG_ANY, "mains: runs that last longer are reported again and again; 0s: not"},
    {"meter", "on_w", CONFIG_NUMBER, METER(meter.on_w), "15", 0.1, 1e6, NULL, CONFIG_ANY, "power from which the load is on"},
    {"meter", "off_w", CONFIG_NUMBER, METER(meter.off_w), "10", 0, 1e6, NULL, CONFIG_ANY, "power below which it is off; less than on_w"},
    {"meter", "min_on", CONFIG_DURATION, METER(meter.min_on_ms), "2s", 0, MS_DAY, NULL, CONFIG_ANY, "shorter runs are ignored"},
    {"meter", "min_off", CONFIG_DURATION, METER(meter.min_off_ms), "30s", 0, MS_DAY, NULL, CONFIG_ANY, "shorter pauses are bridged"},
    {"meter", "silence", CONFIG_DURATION, METER(meter.silence_ms), "10m", 1000, 30 * MS_DAY, NULL, CONFIG_ANY, "without a reading for so long: alert"},
    {"meter", "max_gap", CONFIG_DURATION, METER(meter.max_gap_ms), "60s", 1000, MS_DAY, NULL, CONFIG_ANY, "more time between two readings is a gap"},
    {"meter", "peak_w", CONFIG_NUMBER, METER(meter.peak_w), "0", 0, 1e7, NULL, CONFIG_ANY, "power from which the load is at its peak; 0: 1.3 of the usual"},
    {"meter", "sensitivity", CONFIG_CHOICE, METER(meter.rules.sensitivity), "normal", 0, 0, "off=1 low=2 normal=3 high=4", CONFIG_ANY, "off, low, normal or high: of alerts about what was learned"},
    {"meter", "learning", CONFIG_DURATION, METER(meter.rules.learning_ms), "7d", 0, 366 * MS_DAY, NULL, CONFIG_ANY, "no alerts about what is learned before"},
    {"meter", "power_tolerance", CONFIG_NUMBER, METER(meter.rules.power_percent), "0", 0, 1000, NULL, CONFIG_ANY, "percent of the usual power; 0: from sensitivity"},
    {"meter", "duration_tolerance", CONFIG_NUMBER, METER(meter.rules.duration_percent), "0", 0, 10000, NULL, CONFIG_ANY, "percent of the usual length and period; 0: from sensitivity"},
    {"meter", "limit_w", CONFIG_NUMBER, METER(meter.rules.limit_w), "0", 0, 1e7, NULL, CONFIG_ANY, "alert when the power is above; 0: no limit"},
    {"meter", "limit_for", CONFIG_DURATION, METER(meter.rules.limit_for_ms), "10s", 0, MS_DAY, NULL, CONFIG_ANY, "but not before it has been for so long"},
    {"meter", "limit_day_wh", CONFIG_NUMBER, METER(meter.rules.limit_day_wh), "0", 0, 1e9, NULL, CONFIG_ANY, "alert when a day has taken more; 0: no limit"},
    {"meter", "possible_w", CONFIG_NUMBER, METER(meter.rules.possible_w), "0", 0, 1e7, NULL, CONFIG_ANY, "readings beyond are left out; 0: those far above all before that nothing confirms"},
    {"meter", "frozen", CONFIG_DURATION, METER(meter.rules.frozen_ms), "10m", 0, 30 * MS_DAY, NULL, CONFIG_ANY, "the same reading for so long, at least, is a frozen meter; 0s: never"},
    {"meter", "generation", CONFIG_CHOICE, METER(meter.rules.negative), "no", 0, 0, NO_YES, CONFIG_ANY, "power below zero is normal here"},
    {"meter", "teach", CONFIG_CHOICE, METER(teach), "no", 0, 0, NO_YES, CONFIG_ANY, "keep the last days of power, and look for machines that nilmctl teach has taught"},
    {"meter", "states", CONFIG_STRING, METER(states), "off", 0, 0, NULL, CONFIG_ANY, "states of a machine: off; auto: limits of idle, run and peak are learned; or W1,W2: runs from W1, peak from W2"},
    {"meter", "state_events", CONFIG_CHOICE, METER(machine.events), "no", 0, 0, NO_YES, CONFIG_ANY, "an event for each change of state; needs states"},
    {"meter", "record", CONFIG_STRING, METER(record), NULL, 0, 0, NULL, CONFIG_ANY, "folder on this gateway for day files of what is read, to train on; without it nothing is recorded"},
    {"meter", "record_days", CONFIG_COUNT, METER(record_days), "30", 1, 3650, NULL, CONFIG_ANY, "day files kept, the oldest are removed"},
    {"meter", "files", CONFIG_STRING, METER(files), NULL, 0, 0, NULL, CONFIG_REPLAY, "files, folders or globs, separated by blanks; required"},
    {"meter", "column", CONFIG_STRING, METER(column), NULL, 0, 0, NULL, CONFIG_REPLAY, "power column of plain CSV"},
    {"meter", "columns", CONFIG_STRING, METER(columns), NULL, 0, 0, NULL, CONFIG_REPLAY, "the three power columns of a three-phase meter, separated by blanks, instead of column"},
    {"meter", "phases", CONFIG_CHOICE, METER(source.phases), "1", 0, 0, "1=0 3=1", CONFIG_STDIN | CONFIG_SIM, "3: a three-phase meter, lines are L1,L2,L3 or time,L1,L2,L3"},
    {"meter", "loop", CONFIG_CHOICE, METER(source.loop), "no", 0, 0, NO_YES, CONFIG_REPLAY, "begin again at the end"},
    {"meter", "rebase", CONFIG_CHOICE, METER(source.rebase), "no", 0, 0, NO_YES, CONFIG_REPLAY | CONFIG_SIM, "shift times so that the first reading is now"},
    {"meter", "speed", CONFIG_SPEED, METER(source.speed), "1", 0.001, 1e6, NULL, CONFIG_REPLAY | CONFIG_SIM, "times real time, or max"},
    {"meter", "appliance", CONFIG_STRING, METER(appliance), NULL, 0, 0, NULL, CONFIG_SIM, "what the simulated circuit carries, or several behind a mains meter, separated by blanks; required"},
    {"meter", "seed", CONFIG_COUNT, METER(source.seed), "1", 0, 9e15, NULL, CONFIG_SIM, "of the random numbers"},
    {"meter", "days", CONFIG_COUNT, METER(source.days), "0", 0, 36500, NULL, CONFIG_SIM, "length; 0: endless"},
    {"meter", "start", CONFIG_DATE, METER(source.start_ms), NULL, 0, 0, NULL, CONFIG_SIM, "time of the first reading, YYYY-MM-DD[THH:MM:SSZ]; else now"},
    {"meter", "truth", CONFIG_STRING, METER(truth), NULL, 0, 0, NULL, CONFIG_SIM, "CSV file for the true runs"},

    {"report", "currency", CONFIG_STRING, FIELD(currency), "EUR", 0, 0, NULL, 0, "of prices"},
    {"report", "price", CONFIG_NUMBER, FIELD(price), "0", 0, 1e6, NULL, 0, "of a kWh; 0: no costs"},
    {"report", "tariff", CONFIG_STRING, FIELD(tariff), NULL, 0, 0, NULL, 0, "prices by time: [DAYS] HH:MM-HH:MM PRICE, separated by commas; price is for the rest"},
    {"report", "daily_summary", CONFIG_CHOICE, FIELD(daily_summary), "no", 0, 0, NO_YES, 0, "each day of each meter is published"},

    {"log", "level", CONFIG_CHOICE, FIELD(log_level), "info", 0, 0, "error=0 warning=1 info=2 debug=3", 0, "error, warning, info or debug: least severity written"},
};
/* clang-format on */
const size_t config_key_count = sizeof config_keys / sizeof *config_keys;

const struct config_key *config_keys_find(const char *section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

int config_keys_section(const char *section)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0)
            return 1;
    return 0;
}

void config_keys_print(FILE *out)
{
    const char *section = "";
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        if (strcmp(section, k->section) != 0)
            fprintf(out, strcmp(k->section, "meter") == 0 ? "[%s:NAME]\n" : "[%s]\n", k->section);
        section = k->section;
        fprintf(out, "  %-14s %-15s %s", k->name, k->fallback ? k->fallback : "-", k->help);
        if (k->types && k->types != CONFIG_ANY)
            fprintf(out, " (%s%s%s%s)", k->types & CONFIG_REPLAY ? "replay" : "",
                    k->types & CONFIG_STDIN ? "stdin" : "",
                    k->types & CONFIG_SIM && k->types != CONFIG_SIM ? ", " : "",
                    k->types & CONFIG_SIM ? "sim" : "");
        fputc('\n', out);
    }
    fputs("[shifts]\n  NAME           -               HH:MM-HH:MM, then weekdays (mon-fri, sat) or "
          "each day; "
          "whole quarters of an hour, local time\n",
          out);
}
