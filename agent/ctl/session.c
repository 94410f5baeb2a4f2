/* session.c - the operator's session with a broker (session.h). */
#include "agent/ctl/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/broker.h"
#include "agent/config_keys.h"
#include "agent/ctl/cli.h"

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

void session_catch_signals(void)
{
    /* The handler only sets a flag: link_wake is not made for signal handlers. */
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int session_stopped(void)
{
    return stopped;
}

int session_settings(struct session *s, const struct config *c, char *why, size_t why_size)
{
    s->settings = *c;
    s->settings.meters = NULL; /* stay with c */
    s->settings.meter_count = 0;
    return broker_password(c, s->password, sizeof s->password, why, why_size);
}

static int take(const char *command, struct config *c, const char *option, const char *section,
                const char *key, const char *value)
{
    char why[CLI_WHY] = "";
    if (!value || config_keys_parse(config_keys_find(section, key), value, c, why, sizeof why) == 0)
        return CLI_DONE;
    return cli_fail(CLI_USAGE, command, "--%s: %s", option, why);
}

int session_prepare(const char *command, const struct session_options *o, struct session *s)
{
    char why[CLI_WHY] = "";
    int code = CLI_DONE;
    memset(s, 0, sizeof *s);
    if (o->config) {
        struct config *c = NULL;
        if ((code = cli_config(command, o->config, &c)) != CLI_DONE)
            return code;
        if (session_settings(s, c, why, sizeof why) != 0)
            code = cli_fail(CLI_FAILED, command, "%s", why);
        config_free(c);
    }
    const struct {
        const char *option, *key, *value;
    } given[] = {{"broker", "url", o->broker}, {"ca", "ca", o->ca},
                 {"cert", "cert", o->cert},    {"key", "key", o->key},
                 {"base", "base", o->base},    {"server-name", "server_name", o->server_name}};
    if (!o->config)
        code = take(command, &s->settings, "base", "broker", "base", "nilm/v1");
    for (size_t i = 0; i < sizeof given / sizeof given[0] && code == CLI_DONE; i++)
        code = take(command, &s->settings, given[i].option, "broker", given[i].key, given[i].value);
    if (code != CLI_DONE)
        return code;
    if (!*s->settings.broker_host)
        return cli_fail(CLI_USAGE, command,
                        "which broker? --broker URL, or --config FILE of an agent with one");
    if (!*s->settings.ca)
        return cli_fail(CLI_USAGE, command,
                        "--ca FILE is needed: the CA that signed the broker's certificate");
    if (!*s->settings.cert != !*s->settings.key)
        return cli_fail(CLI_USAGE, command, "--cert and --key belong together");
    return CLI_DONE;
}

int session_open(struct session *s, size_t max_message, int connect_timeout_s, char *why,
                 size_t why_size)
{
    const struct config *c = &s->settings;
    uint32_t random = 0;
    (void)!getrandom(&random, sizeof random, GRND_NONBLOCK); /* only to differ from others */
    if (!*s->client_id)
        snprintf(s->client_id, sizeof s->client_id, "nilmctl-%ld-%08x", (long)getpid(), random);
    struct link_config config;
    broker_settings(c, s->password, &config);
    config.client_id = s->client_id;
    config.connect_timeout_s = connect_timeout_s;
    config.backoff_min_ms = 500;
    config.backoff_max_ms = 5000;
    config.session_expiry_s = s->expiry_s;
    config.manual_ack = s->expiry_s > 0;
    config.max_message = max_message;
    return link_create(&config, &s->link, why, why_size);
}

void session_tell(const struct session *s, const struct link_event *e)
{
    const struct link_broker b = broker_at(&s->settings, e->broker);
    fprintf(stderr, "nilmctl watch: connected to %s:%u (%s)\n", b.host, (unsigned)b.port, e->text);
}

void session_close(struct session *s)
{
    if (s->link)
        link_destroy(s->link, 1000);
    s->link = NULL;
    explicit_bzero(s->password, sizeof s->password);
}
