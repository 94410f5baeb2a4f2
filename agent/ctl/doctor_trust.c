/* doctor_trust.c - checks of what is trusted: certificates, key ring, models. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/doctor.h"
#include "agent/ctl/verify.h"
#include "storage/slots.h"
#include "transport/pki.h"

#define DAY 86400
#define WARN_DAYS 14

#define RENEW "have the CA sign the request again, then nilmctl provision --cert"

/* Days left of one certificate file. 0 when it can be used. */
static int check_dates(struct doctor *d, const char *what, const char *path, const char *advice)
{
    struct pki_cert c;
    char why[CLI_WHY] = "";
    if (pki_describe(path, &c, why, sizeof why) != 0) {
        doctor_finding(d, what, DOCTOR_FAULT, advice, "%s", why);
        return -1;
    }
    int64_t now = cli_now_ms() / 1000, left = (c.not_after_s - now) / DAY;
    if (now > c.not_after_s)
        doctor_finding(d, what, DOCTOR_FAULT, advice, "%s: expired %lld days ago", path,
                       (long long)((now - c.not_after_s) / DAY));
    else if (now < c.not_before_s)
        doctor_finding(d, what, DOCTOR_LATER, "set the clock, or wait", "%s: not valid yet", path);
    else if (left < WARN_DAYS)
        doctor_finding(d, what, DOCTOR_WARNING, advice, "%s: %lld days left", path,
                       (long long)left);
    else
        doctor_finding(d, what, DOCTOR_OK, "", "%s: %s, %lld days left", path, c.subject,
                       (long long)left);
    return now > c.not_after_s || now < c.not_before_s ? -1 : 0;
}

static void check_client(struct doctor *d)
{
    const struct config *c = d->config;
    char why[CLI_WHY] = "";
    struct stat st;
    if (stat(c->key, &st) != 0)
        doctor_finding(d, "key", DOCTOR_FAULT, "make it with nilmctl provision", "%s: %s", c->key,
                       strerror(errno));
    else if ((st.st_mode & 077) != 0)
        doctor_finding(d, "key", DOCTOR_WARNING, "chmod 600 it",
                       "%s: others can read it (mode %03o)", c->key, (unsigned)st.st_mode & 0777);
    if (check_dates(d, "certificate", c->cert, RENEW) != 0)
        return;
    int rc = pki_check_pair(c->cert, c->key, why, sizeof why);
    if (rc != 0)
        doctor_finding(
            d, "certificate", DOCTOR_FAULT,
            "the certificate was made for another key: have the CA sign this device's request",
            "%s", why);
    else if (pki_check_chain(c->cert, c->ca, why, sizeof why) != 0)
        /* The broker may trust another CA for clients than we do for the broker. */
        doctor_finding(d, "certificate", DOCTOR_NOTE,
                       "fine when the broker trusts another CA for its clients", "%s", why);
}

void doctor_check_certificates(struct doctor *d)
{
    const struct config *c = d->config;
    if (!*c->broker_host)
        return;
    if (!*c->ca)
        doctor_finding(d, "CA", DOCTOR_FAULT, "set [broker] ca",
                       "none is configured: no broker is trusted");
    else
        check_dates(d, "CA", c->ca, "install the CA's new certificate: nilmctl provision --ca");
    if (*c->cert && *c->key)
        check_client(d);
    else
        doctor_finding(d, "certificate", DOCTOR_NOTE,
                       "set [broker] cert and key if the broker asks for one",
                       "no client certificate is configured");
}

void doctor_check_ring(struct doctor *d)
{
    const char *path = d->config->model_keys;
    struct pki_ring *ring = NULL;
    char why[CLI_WHY] = "";
    if (!*path) {
        doctor_finding(d, "key ring", DOCTOR_NOTE, "set [model] keys to accept models over MQTT",
                       "none: every pushed model is refused");
        return;
    }
    int rc = pki_ring_load(path, &ring, why, sizeof why);
    if (rc != 0)
        doctor_finding(d, "key ring", DOCTOR_FAULT,
                       "put public keys (NAME.pub, PEM) there: nilmctl provision --key-ring", "%s",
                       why);
    else if (pki_ring_count(ring) == 0)
        doctor_finding(d, "key ring", DOCTOR_NOTE, "nilmctl provision --key-ring FILE adds one",
                       "%s: empty, every pushed model is refused", path);
    else
        doctor_finding(d, "key ring", DOCTOR_OK, "", "%s: %zu keys", path, pki_ring_count(ring));
    pki_ring_free(ring);
}

static void judge_model(struct doctor *d, const char *place, const struct verify_report *r,
                        const char *advice)
{
    if (r->ok)
        doctor_finding(d, "model", DOCTOR_OK, "",
                       "%s: %s version %u, %u classes, %u golden vectors reproduced", place,
                       r->family, r->version, r->classes, r->golden);
    else
        doctor_finding(d, "model", DOCTOR_FAULT, advice, "%s: %s", place, r->why);
}

/* The active slot of a kind of meters, when a model was ever pushed. 1 when there is one. */
static int check_slot(struct doctor *d, const char *slots_dir)
{
    struct slots *slots = NULL;
    struct slots_info info = {0};
    struct verify_report report;
    char dir[CLI_PATH], why[CLI_WHY] = "";
    cli_path(d->config, slots_dir, dir);
    int rc = slots_open_readonly(dir, &slots, why, sizeof why);
    if (rc == -ENOENT) /* no model was ever pushed */
        return 0;
    if (rc == 0)
        rc = slots_get(slots, &info);
    slots_close(slots);
    if (rc != 0) {
        doctor_finding(d, "model", DOCTOR_FAULT, "run doctor as the user that nilmd runs as", "%s",
                       *why ? why : strerror(-rc));
        return 0;
    }
    if (!info.active)
        return 0;
    verify_file(info.path, d->config->model_keys, &report);
    judge_model(d, info.path, &report,
                "push a good model; until then nilmd uses the previous one or the file of [model]");
    return 1;
}

static void check_kind(struct doctor *d, const char *slots_dir, const char *file, const char *key,
                       const char *without)
{
    struct verify_report report;
    const int pushed = check_slot(d, slots_dir);
    if (*file) {
        verify_file(file, d->config->model_keys, &report);
        judge_model(d, file, &report, "install the model again, or set another file in [model]");
    } else if (!pushed) {
        doctor_finding(d, "model", DOCTOR_WARNING,
                       "set [model] file or mains_file, or push a model", "no %s: %s", key,
                       without);
    }
}

/* Of the kinds that there are meters of. */
void doctor_check_models(struct doctor *d)
{
    const struct config *c = d->config;
    int used[2] = {0};
    for (size_t i = 0; i < c->meter_count; i++)
        used[c->meters[i].meter.mains] = 1;
    if (used[0])
        check_kind(d, CLI_SLOTS, c->model_file, "file", "every appliance is reported as unknown");
    if (used[1])
        check_kind(d, CLI_MAINS_SLOTS, c->mains_file, "mains_file",
                   "nothing of a sum is recognised");
}
