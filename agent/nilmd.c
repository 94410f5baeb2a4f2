/* nilmd.c - the agent's program: options, then start, run, stop. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/calendar.h"
#include "agent/broker.h"
#include "agent/config_keys.h"
#include "agent/log.h"
#include "agent/notify.h"

#define DEFAULT_CONFIG "/etc/nilmd/nilmd.conf"
#define DEFAULT_DRAIN_S 300

enum {
    OPTION_CONFIG = 1,
    OPTION_CHECK,
    OPTION_VERSION,
    OPTION_HELP,
    OPTION_FOREGROUND,
    OPTION_DONE,
    OPTION_DRAIN
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"check-config", no_argument, NULL, OPTION_CHECK},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {"foreground", no_argument, NULL, OPTION_FOREGROUND},
    {"exit-when-done", no_argument, NULL, OPTION_DONE},
    {"drain-timeout", required_argument, NULL, OPTION_DRAIN},
    {NULL, 0, NULL, 0}};

static void print_help(void)
{
    printf(
        "nilmd %s - recognises appliances from the power signal and publishes events over MQTT and "
        "TLS\n\n"
        "usage: nilmd [--config FILE] [--check-config] [--exit-when-done [--drain-timeout S]]\n\n"
        "  --config FILE      configuration (default %s); conf.d/*.conf beside it is read after "
        "it\n"
        "  --check-config     read and check the configuration, say what is wrong, start nothing\n"
        "  --exit-when-done   end once every source has ended and every event is acknowledged\n"
        "  --drain-timeout S  with it: wait at most S seconds for the broker (default %d; then "
        "exit code 4)\n"
        "  --foreground       accepted; the agent never goes into the background\n"
        "  --version, --help\n\n"
        "SIGTERM and SIGINT end it in good order, SIGHUP takes over [log] level and\n"
        "[broker] and reads its files again; the old session goes on until the new is proven.\n"
        "Exit codes: 0 done, 1 wrong usage, 2 failed for good, 3 failed but may succeed when "
        "retried, 4 timed out.\n\n"
        "Configuration keys, their defaults and meanings (durations: ms s m h d; sizes: K M G):\n",
        NILM_VERSION, DEFAULT_CONFIG, DEFAULT_DRAIN_S);
    config_keys_print(stdout);
}

/* Returns -1 to go on, or an exit code. */
static int parse_options(int argc, char **argv, struct agent_options *o, int *check)
{
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        char *end = NULL;
        switch (c) {
        case OPTION_CONFIG:
            o->config_path = optarg;
            break;
        case OPTION_CHECK:
            *check = 1;
            break;
        case OPTION_VERSION:
            printf("nilmd %s\n", NILM_VERSION);
            return AGENT_OK;
        case OPTION_HELP:
            print_help();
            return AGENT_OK;
        case OPTION_FOREGROUND:
            break;
        case OPTION_DONE:
            o->exit_when_done = 1;
            break;
        case OPTION_DRAIN:
            o->drain_timeout_ms = strtol(optarg, &end, 10) * 1000;
            if (*end == '\0' && end != optarg && o->drain_timeout_ms >= 0 &&
                o->drain_timeout_ms < 1000000000)
                break;
            fprintf(stderr,
                    "nilmd: --drain-timeout: expected seconds of 0 to 999999, found \"%s\"\n",
                    optarg);
            return AGENT_USAGE;
        default:
            return AGENT_USAGE; /* getopt has told what */
        }
    }
    if (optind < argc) {
        fprintf(stderr, "nilmd: unexpected argument \"%s\" (nilmd --help)\n", argv[optind]);
        return AGENT_USAGE;
    }
    return -1;
}

static void print_summary(const char *path, const struct config *c)
{
    printf("%s: device %s, %zu meter%s, data in %s, ", path, c->device, c->meter_count,
           c->meter_count == 1 ? "" : "s", c->data_dir);
    for (int i = 0; i < broker_count(c); i++)
        printf("broker %s:%u\n", broker_at(c, i).host, (unsigned)broker_at(c, i).port);
    if (broker_count(c) == 0)
        printf("no broker\n");
}

/* Salvaging a damaged database can take longer than a start or a watchdog may: systemd is told. */
static void tell_alive(void)
{
    notify_send("WATCHDOG=1\nEXTEND_TIMEOUT_USEC=60000000");
}

/* Signals arrive through a descriptor; blocked before any thread starts, so that none takes them.
 */
static int make_signal_fd(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int main(int argc, char **argv)
{
    struct agent_options options = {.config_path = DEFAULT_CONFIG,
                                    .drain_timeout_ms = DEFAULT_DRAIN_S * 1000};
    static struct agent agent;
    struct config *config = NULL;
    char why[1024] = "";
    int check = 0;
    int code = parse_options(argc, argv, &options, &check);
    if (code >= 0)
        return code;
    if (config_load(options.config_path, &config, why, sizeof why) < 0) {
        fprintf(stderr, "nilmd: %s\n", why);
        return AGENT_FAILED;
    }
    if (check) {
        print_summary(options.config_path, config);
        config_free(config);
        return AGENT_OK;
    }
    log_set_level(config->log_level);
    if (calendar_use(config->timezone) < 0) {
        config_free(config);
        return AGENT_RETRY;
    }
    umask(077);
    store_set_pulse(tell_alive);
    /* One heap for all threads: each of glibc's arenas would keep its own free memory. And a proxy
     * is not for MQTT: Paho would obey this even towards loopback. Both before the first thread. */
    mallopt(M_ARENA_MAX, 1);
    unsetenv("http_proxy");
    const int signal_fd = make_signal_fd();
    if (signal_fd < 0) {
        log_error("signalfd: %s", strerror(-signal_fd));
        return AGENT_RETRY;
    }
    log_info("nilmd %s: device %s", NILM_VERSION, config->device);
    code = agent_start(&agent, &options, config, signal_fd);
    if (code == 0)
        code = agent_run(&agent);
    agent_stop(&agent);
    close(signal_fd);
    config_free(config);
    return code;
}
