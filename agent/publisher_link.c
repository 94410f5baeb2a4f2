/* publisher_link.c - the publisher's link: which broker, with which credentials, and how both
 * change.
 *
 * Nothing that works is given up for something unproven. New files, a changed [broker] section and
 * the way back to the first broker are tried by a link of their own (link_try), and the session
 * moves only when that has come up.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/broker.h"
#include "agent/log.h"
#include "agent/publisher_internal.h"

#define SESSION_EXPIRY_S                                                                           \
    3600                 /* pushes and commands sent during a short outage are kept by the broker */
#define LOOK_MS 5000     /* at the files; a change counts when two looks see the same */
#define TRIAL_MS 60000   /* for a trial; while there is no session at all, it goes on */
#define AGAIN_MS 900000  /* after a trial that failed: the cause may be at the broker */
#define TURN_MS 1000     /* longest wait of a turn, */
#define TRIAL_TURN_MS 50 /* and with two links to look after */

static int64_t file_stamp(const char *path)
{
    struct stat st;
    if (!path[0] || stat(path, &st) < 0)
        return 0;
    return (int64_t)st.st_mtim.tv_sec * 1000003 + st.st_mtim.tv_nsec + (int64_t)st.st_ino * 31 +
           (int64_t)st.st_size;
}

/* Changes when a certificate, the key or the password was replaced. */
static int64_t files_stamp(const struct config *c)
{
    return file_stamp(c->ca) ^ (file_stamp(c->cert) * 3) ^ (file_stamp(c->key) * 5) ^
           (file_stamp(c->password_file) * 7);
}

static int64_t random_below(int64_t n)
{
    uint64_t r = 0;
    if (n <= 1 || getrandom(&r, sizeof r, 0) != sizeof r)
        return 0;
    return (int64_t)(r % (uint64_t)n);
}

static int subscribe(struct publisher *p, struct link *l)
{
    static const enum topic_kind kinds[] = {TOPIC_PUSH, TOPIC_COMMAND, TOPIC_GROUP_PUSH};
    const struct config *c = p->config;
    char topic[TOPIC_BYTES];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *name = kinds[i] == TOPIC_GROUP_PUSH ? c->group : c->device;
        if (!name[0])
            continue;
        int rc = topic_build(topic, sizeof topic, c->base, kinds[i], name, NULL);
        if (rc == 0)
            rc = link_subscribe(l, topic);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A link with what wanted says. will NULL: a trial. */
static int create_link(struct publisher *p, const char *client_id, const char *will,
                       struct link **out, char *why, size_t why_size)
{
    char password[BROKER_PASSWORD_BYTES];
    struct link_config config;
    *out = NULL;
    int rc = broker_password(p->wanted, password, sizeof password, why, why_size);
    if (rc == 0) {
        broker_settings(p->wanted, password, &config);
        config.client_id = client_id;
        config.max_inflight = will ? DRAIN_INFLIGHT : 1;
        config.session_expiry_s = will ? SESSION_EXPIRY_S : 0;
        config.will_topic = will ? p->topics[PUBLISHER_STATUS] : NULL;
        config.will_payload = will;
        config.max_message = CANDIDATE_MAX_BYTES;
        rc = link_create(&config, out, why, why_size);
    }
    explicit_bzero(password, sizeof password);
    return rc;
}

/* Why what is new is not used; "": it is, or there is nothing new. */
static void set_refused(struct publisher *p, const char *text, int64_t now)
{
    p->refused = text[0] != '\0';
    p->refused_stamp = p->seen;
    p->retry_at = now + AGAIN_MS;
    pthread_mutex_lock(&p->lock);
    snprintf(p->stats.refused, sizeof p->stats.refused, "%s", text);
    pthread_mutex_unlock(&p->lock);
}

static void give_clock(struct publisher *p, struct link *l)
{
    pthread_mutex_lock(&p->lock);
    const int known = p->clock_known;
    const int64_t floor_s = p->floor_s;
    pthread_mutex_unlock(&p->lock);
    link_set_clock(l, known, floor_s);
}

static void take_handed(struct publisher *p);

int publisher_make_link(struct publisher *p)
{
    char why[320] = "", will[160];
    struct link *l = NULL;
    snprintf(will, sizeof will, "{\"state\":\"offline\",\"device\":\"%s\"}", p->config->device);
    take_handed(p);
    p->stamp = p->seen = files_stamp(p->wanted);
    p->differs = p->refused = 0;
    int rc = create_link(p, p->config->device, will, &l, why, sizeof why);
    if (rc == 0)
        rc = subscribe(p, l);
    if (rc < 0) {
        publisher_tell_failure(p, why[0] ? why : strerror(-rc), PUBLISHER_RETRY_MS);
        link_destroy(l, 0);
        return rc;
    }
    pthread_mutex_lock(&p->lock);
    p->link = l;
    p->stats.expiry_s = link_expiry(l);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static void end_trial(struct publisher *p, int timeout_ms)
{
    if (p->trial)
        link_destroy(p->trial, timeout_ms);
    p->trial = NULL;
    p->trying = TRIAL_NONE;
}

void publisher_drop_link(struct publisher *p, int timeout_ms)
{
    end_trial(p, 0);
    pthread_mutex_lock(&p->lock);
    struct link *l = p->link;
    p->link = NULL;
    pthread_mutex_unlock(&p->lock);
    if (l)
        link_destroy(l, timeout_ms);
    p->up = 0;
}

void publisher_link_up(struct publisher *p, const struct link_event *e, int64_t now_ms)
{
    const struct link_broker b = link_broker(p->link);
    p->broker = e->broker;
    /* Not all of a fleet at once. */
    p->fail_back_at = now_ms + p->wanted->fail_back_ms + random_below(p->wanted->fail_back_ms / 2);
    pthread_mutex_lock(&p->lock);
    snprintf(p->stats.broker, sizeof p->stats.broker, "%s:%u", b.host, (unsigned)b.port);
    p->stats.chain_from_s = e->valid_from_s;
    p->stats.chain_to_s = e->valid_to_s;
    pthread_mutex_unlock(&p->lock);
}

/* ---- trials ---- */

static void start_trial(struct publisher *p, enum publisher_trial trying, int64_t now)
{
    char why[320] = "", id[80];
    snprintf(id, sizeof id, "%.63s-trial", p->config->device);
    int rc = trying == TRIAL_RELOAD ? create_link(p, id, NULL, &p->trial, why, sizeof why)
                                    : link_try(p->link, 0, id, &p->trial, why, sizeof why);
    if (rc < 0 && trying == TRIAL_FAIL_BACK) {
        p->fail_back_at = now + p->wanted->fail_back_ms;
        return;
    }
    p->trial_stamp = p->seen;
    if (rc < 0) {
        log_error("broker: the new settings cannot be used: %s; the old ones stay", why);
        set_refused(p, why, now);
        return;
    }
    p->trying = trying;
    p->trial_until = now + TRIAL_MS;
    give_clock(p, p->trial);
}

static void accept_trial(struct publisher *p, int64_t now)
{
    const struct link_broker b = link_broker(p->trial);
    if (p->trying == TRIAL_FAIL_BACK) {
        log_info("broker: %s:%u is there again; going back to it", b.host, (unsigned)b.port);
        link_move(p->link, 0);
        p->fail_back_at = now + p->wanted->fail_back_ms;
    } else {
        log_info("broker: %s:%u accepts the new settings; they replace the old ones", b.host,
                 (unsigned)b.port);
        link_adopt(p->link, p->trial);
        p->stamp = p->trial_stamp;
        p->differs = 0;
        set_refused(p, "", now);
        pthread_mutex_lock(&p->lock);
        p->stats.expiry_s = link_expiry(p->link);
        pthread_mutex_unlock(&p->lock);
    }
    end_trial(p, 1000);
}

static void refuse_trial(struct publisher *p, const char *text, int64_t now)
{
    if (p->trying == TRIAL_FAIL_BACK) {
        p->fail_back_at = now + p->wanted->fail_back_ms + random_below(p->wanted->fail_back_ms / 2);
    } else {
        log_error("broker: does not accept the new settings: %s; the old session goes on", text);
        set_refused(p, text, now);
    }
    end_trial(p, 0);
}

static void tend_trial(struct publisher *p, int64_t now)
{
    struct link_event e;
    const int type = link_next(p->trial, &e, 0);
    if (type == LINK_UP)
        accept_trial(p, now);
    else if (type < 0)
        refuse_trial(p, strerror(-type), now);
    /* Without a session nothing is lost by trying on, and the network may be to blame. "Again at
     * once" is a broker that speaks only MQTT 3.1.1. */
    else if (type == LINK_DOWN && e.retry_ms > 0 && p->up)
        refuse_trial(p, e.text, now);
    else if (now > p->trial_until && p->up)
        refuse_trial(p, "no session came about in time", now);
}

/* ---- at each turn ---- */

static void take_handed(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    struct config *c = p->handed;
    p->handed = NULL;
    pthread_mutex_unlock(&p->lock);
    if (!c)
        return;
    if (p->trying == TRIAL_RELOAD)
        end_trial(p, 0);
    p->differs |=
        memcmp(p->wanted, c, sizeof *c) != 0; /* both were cleared before they were filled */
    free(p->wanted);
    p->wanted = c;
    p->seen = files_stamp(c);
    if (p->up) /* also what was parked and is offered again */
        drain_session(p->drain);
    p->refused_stamp = 0; /* asked for: at once */
    p->retry_at = 0;
    p->seen_at = INT64_MIN / 2;
}

/* Whether there is something new to try: other settings, or files that changed and came to rest. */
static int is_new(struct publisher *p, int64_t now)
{
    if (now < p->seen_at + LOOK_MS)
        return 0;
    p->seen_at = now;
    const int64_t stamp = files_stamp(p->wanted), before = p->seen;
    p->seen = stamp;
    if (p->differs)
        return now >= p->retry_at;
    if (stamp == p->stamp) {
        if (p->refused) /* what is in use was put back */
            set_refused(p, "", now);
        return 0;
    }
    return stamp == before && (stamp != p->refused_stamp || now >= p->retry_at);
}

int publisher_tend_link(struct publisher *p, int64_t now_ms)
{
    take_handed(p);
    give_clock(p, p->link);
    if (!p->trial && is_new(p, now_ms)) {
        log_info("broker: certificate, key, password or settings changed; trying them");
        start_trial(p, TRIAL_RELOAD, now_ms);
    } else if (!p->trial && p->up && p->broker > 0 && now_ms >= p->fail_back_at) {
        start_trial(p, TRIAL_FAIL_BACK, now_ms);
    }
    if (p->trial)
        tend_trial(p, now_ms);
    return p->trial ? TRIAL_TURN_MS : TURN_MS;
}
