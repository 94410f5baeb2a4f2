#include "agent/updater.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/log.h"
#include "agent/payload.h"

/* Named values: version whose activation was reported. */
#define REPORTED "model.reported"
#define REPORTED_MAINS "model.reported.mains"

struct updater {
    struct updater_config config;
    struct slots *slots;
    struct candidate *active; /* its bytes are released; NULL: no model */
    char from[512];
    char refused_sha256[65]; /* last refusal that was reported: redelivery does not fill the outbox
                              */
    char refused_reason[320];
    struct alert failed; /* raised at start and not yet cleared */
};

static int64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint32_t active_version(const struct updater *u)
{
    return u->active ? u->active->version : 0;
}

const char *updater_family(const struct updater *u)
{
    return u->active ? u->active->family : u->config.mains ? UPDATER_MAINS_FAMILY : UPDATER_FAMILY;
}

static void announce(struct updater *u, const char *state, const struct candidate *c)
{
    char *text = payload_model(u->config.device, state, c ? c->family : updater_family(u),
                               c ? c->version : 0, c ? c->name : "", c ? c->sha256 : "",
                               c && c->error < 0 ? c->reason : "", unix_ms());
    if (text)
        u->config.announce(u->config.context, text);
    free(text);
}

static void report(struct updater *u, const char *state, const struct candidate *c, uint32_t from)
{
    const int64_t now = unix_ms();
    char *body = payload_report(state, c->family, c->version, from, c->name,
                                c->error < 0 ? c->reason : "", now);
    if (!body || journal_report(u->config.journal, body, now) < 0)
        log_error("model: the report \"%s\" could not be stored", state);
    free(body);
}

static const char *reported_name(const struct updater *u)
{
    return u->config.mains ? REPORTED_MAINS : REPORTED;
}

/* Whether the meters can use it: 0, or -EINVAL with the candidate's reason. */
static int check_head(const struct updater *u, struct candidate *c)
{
    const enum model_head head = u->config.mains ? MODEL_SIGMOID : MODEL_SOFTMAX;
    if (c->model->head == head)
        return 0;
    candidate_refuse(c, -EINVAL,
                     u->config.mains
                         ? "model: the head is softmax, expected sigmoid (meters of kind mains)"
                         : "model: the head is sigmoid, expected softmax (meters of kind circuit)");
    return -EINVAL;
}

/* After this a start does not report the activation again. */
static void note_reported(struct updater *u, uint32_t version)
{
    if (u->config.store && store_set(u->config.store, reported_name(u), version) < 0)
        log_warning("model: %s", store_error(u->config.store));
}

__attribute__((format(printf, 4, 5))) static int refuse(struct updater *u, struct candidate *c,
                                                        int error, const char *format, ...)
{
    if (format) {
        va_list args;
        va_start(args, format);
        vsnprintf(c->reason, sizeof c->reason, format, args);
        va_end(args);
        c->error = error;
    }
    log_warning("model: pushed bundle refused: %s", c->reason);
    announce(u, "refused", c);
    if (strcmp(u->refused_sha256, c->sha256) != 0 || strcmp(u->refused_reason, c->reason) != 0) {
        report(u, "refused", c, active_version(u));
        memcpy(u->refused_sha256, c->sha256, sizeof u->refused_sha256);
        memcpy(u->refused_reason, c->reason, sizeof u->refused_reason);
    }
    const int rc = c->error;
    candidate_free(c);
    return rc;
}

/* c becomes the active one; the meters have its engine already. */
static void take(struct updater *u, struct candidate *c, const char *from)
{
    candidate_free(u->active);
    free(c->bytes); /* they are in the slot */
    c->bytes = NULL;
    c->size = 0;
    u->active = c;
    snprintf(u->from, sizeof u->from, "%s", from);
}

static void clear_alert(struct updater *u)
{
    if (!u->failed.alert[0])
        return;
    u->failed.cleared = 1;
    u->failed.time_ms = unix_ms();
    journal_alert(u->config.journal, &u->failed);
    u->failed.alert[0] = '\0';
}

static void raise_alert(struct updater *u, const char *what, const char *reason)
{
    struct alert *a = &u->failed;
    log_error("model: %s cannot be used: %s", what, reason);
    memset(a, 0, sizeof *a);
    snprintf(a->alert, sizeof a->alert, "model_failed");
    a->severity = ALERT_CRITICAL;
    a->quality = EVENT_CLOCK;
    a->time_ms = a->since_ms = unix_ms();
    snprintf(a->alert_id, sizeof a->alert_id, "model_failed-%" PRId64, a->time_ms);
    snprintf(a->expected, sizeof a->expected, "%.60s to be a proven model", what);
    snprintf(a->seen, sizeof a->seen, "%s", reason);
    journal_alert(u->config.journal, a);
}

int updater_create(const struct updater_config *config, struct updater **out, char *why,
                   size_t why_size)
{
    struct updater *u = calloc(1, sizeof *u);
    int repaired = 0;
    *out = NULL;
    if (!u) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    u->config = *config;
    const int rc = slots_open(config->slots_dir, &u->slots, &repaired, why, why_size);
    if (rc < 0) {
        free(u);
        return rc;
    }
    if (repaired)
        raise_alert(u, "the state of the model slots", "the file was damaged and was set aside");
    *out = u;
    return 0;
}

void updater_destroy(struct updater *u)
{
    if (!u)
        return;
    slots_close(u->slots);
    candidate_free(u->active);
    free(u);
}

/* A proven candidate from a slot, or NULL with the reason. */
static struct candidate *load_slot(struct updater *u, char slot, char *why, size_t why_size)
{
    void *bytes = NULL;
    size_t size = 0;
    if (slots_read(u->slots, slot, CANDIDATE_MAX_BYTES, &bytes, &size, why, why_size) < 0)
        return NULL;
    /* Expiry bounds the pushing, not the running: a model that was accepted in time goes on. */
    struct candidate *c = candidate_check(bytes, size, u->config.keys, 0);
    if (c && c->error == 0)
        check_head(u, c);
    if (!c || c->error < 0) {
        snprintf(why, why_size, "%s", c ? c->reason : "out of memory");
        candidate_free(c);
        return NULL;
    }
    return c;
}

static int start_from_slots(struct updater *u, const struct slots_info *info)
{
    char why[320] = "", what[32];
    const char order[] = {info->active, info->previous};
    for (size_t i = 0; i < sizeof order && info->active; i++) {
        if (!order[i])
            continue;
        struct candidate *c = load_slot(u, order[i], why, sizeof why);
        snprintf(what, sizeof what, "slot %c", order[i]);
        if (c) {
            take(u, c, i == 0 ? info->path : what);
            return 1;
        }
        raise_alert(u, what, why);
    }
    return 0;
}

static void start_from_file(struct updater *u)
{
    const char *path = u->config.model_file;
    struct candidate *c = path[0] ? candidate_from_file(path, u->config.keys) : NULL;
    if (c && c->error == 0 && check_head(u, c) == 0) {
        if (c->model->golden_count == 0)
            log_warning("model: %s has no golden vectors: unproven on this device", path);
        take(u, c, path);
        return;
    }
    if (path[0])
        raise_alert(u, "the configured model", c ? c->reason : "out of memory");
    candidate_free(c);
}

void updater_start(struct updater *u)
{
    struct slots_info info;
    if (slots_get(u->slots, &info) < 0)
        memset(&info, 0, sizeof info);
    const int from_slot = start_from_slots(u, &info);
    if (!from_slot)
        start_from_file(u);
    if (!u->active) {
        log_warning(u->config.mains ? "model: none of family mains; nothing of a sum is recognised"
                                    : "model: none; appliances are reported as unknown");
        announce(u, "idle", NULL);
        return;
    }
    log_info("model: %s version %" PRIu32 " \"%s\" from %s (kernels: %s)", u->active->family,
             u->active->version, u->active->name, u->from, engine_isa(u->active->engine));
    announce(u, from_slot ? "active" : "idle", u->active);
    int64_t reported = -1;
    const int rc = store_get(u->config.store, reported_name(u), &reported);
    if (from_slot && (rc == 0 || rc == -ENOENT) && u->active->version == info.version &&
        reported != info.version) {
        report(u, "active", u->active, info.previous_version);
        note_reported(u, info.version);
    }
}

void updater_use_store(struct updater *u, struct store *store)
{
    u->config.store = store;
    if (u->active && u->active->sha256[0])
        note_reported(u, u->active->version);
    announce(u, u->active && u->active->sha256[0] ? "active" : "idle", u->active);
}

const struct engine *updater_engine(const struct updater *u)
{
    return u->active ? u->active->engine : NULL;
}

/* May this authentic, proven candidate replace what runs? */
static int check_policy(struct updater *u, struct candidate *c, const struct slots_info *info)
{
    const char *family = updater_family(u);
    const uint32_t running = active_version(u);
    const uint32_t highest = info->highest > running ? info->highest : running;
    if (check_head(u, c) < 0)
        return c->error;
    if (strcmp(c->family, family) != 0) {
        snprintf(c->reason, sizeof c->reason, "family: is \"%s\", expected \"%s\"", c->family,
                 family);
        return c->error = -EINVAL;
    }
    if (c->version <= highest && !c->allow_downgrade) {
        snprintf(c->reason, sizeof c->reason,
                 "version: is %" PRIu32 ", expected more than %" PRIu32 ", the highest seen",
                 c->version, highest);
        return c->error = -ESTALE;
    }
    return 0;
}

int updater_apply(struct updater *u, struct candidate *c)
{
    char why[256] = "";
    struct slots_info info = {0};
    const uint32_t from = active_version(u);
    if (c->error < 0)
        return refuse(u, c, 0, NULL);
    announce(u, "verified", c);
    if (u->active && u->active->version == c->version &&
        strcmp(u->active->model_sha256, c->model_sha256) == 0) {
        log_info("model: version %" PRIu32 " was delivered again and is active", c->version);
        announce(u, "active", c);
        candidate_free(c);
        return 0;
    }
    int rc = slots_get(u->slots, &info);
    if (rc < 0)
        return refuse(u, c, rc, "slots: %s", strerror(-rc));
    if (check_policy(u, c, &info) < 0)
        return refuse(u, c, 0, NULL);
    if ((rc = slots_stage(u->slots, c->bytes, c->size, why, sizeof why)) < 0)
        return refuse(u, c, rc, "staging: %s", why);
    announce(u, "staged", c);
    if ((rc = u->config.swap(u->config.context, c->engine)) < 0)
        return refuse(u, c, rc, "swap: %s", strerror(-rc));
    if ((rc = slots_activate(u->slots, c->version, why, sizeof why)) < 0) {
        if (u->config.swap(u->config.context, updater_engine(u)) == 0)
            return refuse(u, c, rc, "activation: %s", why);
        /* No memory to go back: the new one runs in this life, the old one after a restart. */
        log_error("model: activation: %s", why);
    }
    take(u, c, slots_get(u->slots, &info) == 0 ? info.path : "slot");
    log_info("model: version %" PRIu32 " \"%s\" took over from version %" PRIu32, c->version,
             c->name, from);
    announce(u, "active", c);
    report(u, "active", c, from);
    note_reported(u, c->version);
    u->refused_sha256[0] = '\0';
    clear_alert(u);
    return 0;
}

int updater_rollback(struct updater *u, char *why, size_t why_size)
{
    struct slots_info info;
    const uint32_t from = active_version(u);
    int rc = slots_get(u->slots, &info);
    if (rc < 0 || !info.previous) {
        snprintf(why, why_size, "there is no previous model to return to");
        return -ENOENT;
    }
    struct candidate *c = load_slot(u, info.previous, why, why_size);
    if (!c)
        return -EBADMSG;
    if ((rc = u->config.swap(u->config.context, c->engine)) < 0) {
        snprintf(why, why_size, "swap: %s", strerror(-rc));
        candidate_free(c);
        return rc;
    }
    if ((rc = slots_rollback(u->slots, why, why_size)) < 0 &&
        u->config.swap(u->config.context, updater_engine(u)) == 0) {
        candidate_free(c);
        return rc;
    }
    take(u, c, slots_get(u->slots, &info) == 0 ? info.path : "slot");
    log_info("model: rolled back from version %" PRIu32 " to %" PRIu32, from, c->version);
    announce(u, "active", c);
    report(u, "rolled_back", c, from);
    note_reported(u, c->version);
    clear_alert(u);
    return 0;
}

void updater_get_info(const struct updater *u, struct updater_info *out)
{
    memset(out, 0, sizeof *out);
    if (slots_get(u->slots, &out->slots) < 0)
        memset(&out->slots, 0, sizeof out->slots);
    if (!u->active)
        return;
    out->version = u->active->version;
    snprintf(out->family, sizeof out->family, "%s", u->active->family);
    snprintf(out->name, sizeof out->name, "%s", u->active->name);
    snprintf(out->from, sizeof out->from, "%s", u->from);
}
