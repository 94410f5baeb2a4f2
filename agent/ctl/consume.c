/* consume.c - the reference consumer: messages from the link into the store, acknowledged when they
 * are there, and out again (consume.h). */
#include "agent/ctl/consume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/consume_report.h"
#include "agent/ctl/show.h"
#include "storage/consumer.h"
#include "transport/topic.h"

#define BATCH 128u          /* messages of a transaction */
#define BATCH_BYTES 4194304 /* and of their payloads */
#define RETRY_MS 2000       /* after the disk refused */
#define TRIM_MS 3600000
#define DAY_MS INT64_C(86400000)

struct consume {
    struct session *session;
    const struct consume_options *o;
    struct consumer *store;
    uint64_t receipts[BATCH];
    size_t count, bytes; /* of the open transaction; count 0: none is open */
    int out_fd;
    int64_t out_bytes, out_position, printed,
        printed_kept; /* as committed; position in the store */
    uint64_t stored, refused;
    int64_t trim_at;
    int ever_up, up, stop;
    struct show show;
    char why[384];
};

/* ---- one message ---- */

static int numbered(enum topic_kind kind)
{
    return kind == TOPIC_EVENT || kind == TOPIC_ALERT || kind == TOPIC_GAP ||
           kind == TOPIC_REPORT || kind == TOPIC_SUMMARY;
}

/* The same message again may differ in `replay` only. 1 when it does in more. */
static int differs(struct consume *c, const struct consumer_item *item, const cJSON *payload)
{
    char *kept = NULL;
    int rc = consumer_payload(c->store, item->device, item->epoch, item->seq, &kept);
    if (rc <= 0)
        return rc;
    cJSON *a = cJSON_Parse(kept), *b = cJSON_Duplicate(payload, 1);
    cJSON_DeleteItemFromObjectCaseSensitive(a, "replay");
    cJSON_DeleteItemFromObjectCaseSensitive(b, "replay");
    rc = a && b ? !cJSON_Compare(a, b, 1) : -ENOMEM;
    cJSON_Delete(a);
    cJSON_Delete(b);
    free(kept);
    return rc;
}

static int take_gap(struct consume *c, const struct consumer_item *item, const cJSON *payload)
{
    int64_t from, to, count;
    int rc = -EINVAL;
    if (cli_whole(payload, "from_seq", 1, &from) &&
        cli_whole(payload, "to_seq", (double)from, &to) && cli_whole(payload, "count", 1, &count))
        rc = consumer_declare(c->store, item->device, item->epoch, item->seq, (uint64_t)from,
                              (uint64_t)to, (uint64_t)count);
    if (rc == -EINVAL)
        fprintf(stderr, "nilmctl watch: %s: a gap without a sensible range declares nothing\n",
                item->device);
    return rc == -EINVAL ? 0 : rc;
}

/* 0 or -errno of the store. What can never be stored is told, and counts as taken: it would come
 * again for ever. */
static int take_item(struct consume *c, const struct topic_parts *topic, const struct link_event *e,
                     const cJSON *payload)
{
    int64_t seq;
    struct consumer_item item = {.device = topic->name,
                                 .topic = e->topic,
                                 .received_ms = cli_now_ms(),
                                 .payload = e->payload,
                                 .payload_bytes = e->payload_bytes};
    if (!cJSON_IsObject(payload) || memchr(e->payload, 0, e->payload_bytes) ||
        !cli_whole(payload, "epoch", 0, &item.epoch) || !cli_whole(payload, "seq", 1, &seq)) {
        c->refused++;
        fprintf(stderr,
                "nilmctl watch: a message of %s has no epoch and seq, or is no JSON object\n",
                topic->name);
        return 0;
    }
    item.seq = (uint64_t)seq;
    int rc = consumer_add(c->store, &item);
    if (rc == 0 && (rc = differs(c, &item, payload)) > 0) {
        fprintf(stderr,
                "nilmctl watch: %s: %" PRId64 "-%" PRIu64 " came again with another content\n",
                item.device, item.epoch, item.seq);
        return consumer_conflict(c->store, item.device);
    }
    if (rc == 1) {
        c->stored++;
        rc = topic->kind == TOPIC_GAP ? take_gap(c, &item, payload) : 0;
    }
    return rc;
}

/* The device says what it has given out and what waits there: so the end of a stream can be judged
 * too (SPEC 8.9). */
static int take_status(struct consume *c, const struct topic_parts *topic, const cJSON *payload)
{
    int64_t epoch, next, rows;
    const cJSON *outbox = cJSON_GetObjectItemCaseSensitive(payload, "outbox");
    if (!cli_whole(payload, "epoch", 0, &epoch) || !cli_whole(outbox, "next_seq", 1, &next) ||
        !cli_whole(outbox, "rows", 0, &rows))
        return 0; /* the will has none of them */
    return consumer_status(c->store, topic->name, epoch, (uint64_t)next, (uint64_t)rows);
}

/* ---- out of the store ---- */

static char *line_of(const struct consumer_item *item, int64_t position)
{
    cJSON *o = cJSON_CreateObject(), *payload = cJSON_Parse(item->payload);
    cJSON_AddNumberToObject(o, "position", (double)position);
    cJSON_AddStringToObject(o, "topic", item->topic);
    cJSON_AddNumberToObject(o, "received", (double)item->received_ms);
    char *line =
        payload && cJSON_AddItemToObject(o, "payload", payload) ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    return line;
}

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno != EINTR)
            return -errno;
        text += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

struct output {
    struct consume *c;
    int64_t position, bytes;
};

static int append_line(void *context, int64_t position, const struct consumer_item *item)
{
    struct output *out = context;
    char *line = line_of(item, position);
    int rc = line ? write_all(out->c->out_fd, line, strlen(line)) : -ENOMEM;
    if (rc == 0)
        rc = write_all(out->c->out_fd, "\n", 1);
    out->bytes += line ? (int64_t)strlen(line) + 1 : 0;
    out->position = position;
    free(line);
    return rc;
}

static int keep_numbers(struct consume *c, const char *name, int64_t a, int64_t b)
{
    char text[64];
    snprintf(text, sizeof text, "%" PRId64 " %" PRId64, a, b);
    return consumer_set(c->store, name, text);
}

static int kept_numbers(struct consume *c, const char *name, int64_t *a, int64_t *b)
{
    char text[64];
    *a = *b = 0;
    int rc = consumer_get(c->store, name, text, sizeof text);
    if (rc == 0 && sscanf(text, "%" SCNd64 " %" SCNd64, a, b) != 2)
        rc = -EBADMSG;
    return rc == -ENOENT ? 0 : rc;
}

/* Lines of this transaction: durable in the file before the transaction that says how long the file
 * is. After a crash between the two, what the store does not know of is cut off and written anew.
 */
static int append_out(struct consume *c, struct output *out)
{
    if (c->out_fd < 0)
        return 0;
    int rc = consumer_items(c->store, c->out_position, append_line, out);
    if (rc == 0 && out->position > c->out_position && fdatasync(c->out_fd) != 0)
        rc = -errno;
    return rc == 0 ? keep_numbers(c, "out", out->bytes, out->position) : rc;
}

static int cut_out(struct consume *c)
{
    if (c->out_fd < 0)
        return 0;
    return ftruncate(c->out_fd, c->out_bytes) != 0 || lseek(c->out_fd, c->out_bytes, SEEK_SET) < 0
               ? -errno
               : 0;
}

static int open_out(struct consume *c)
{
    struct stat st;
    if (!c->o->out)
        return CLI_DONE;
    int rc = kept_numbers(c, "out", &c->out_bytes, &c->out_position);
    if (rc < 0)
        return cli_fail(CLI_FAILED, "watch", "%s: %s", c->o->store, strerror(-rc));
    c->out_fd = open(c->o->out, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (c->out_fd < 0 || fstat(c->out_fd, &st) != 0)
        return cli_fail(CLI_FAILED, "watch", "%s: %s", c->o->out, strerror(errno));
    if (st.st_size == 0)
        c->out_bytes = 0; /* taken away by a rotation: goes on in a new one */
    else if (st.st_size < c->out_bytes)
        return cli_fail(CLI_FAILED, "watch",
                        "%s has %lld bytes, expected at least the %" PRId64
                        " written before: not the same file, or cut; move it away",
                        c->o->out, (long long)st.st_size, c->out_bytes);
    if (cut_out(c) != 0)
        return cli_fail(CLI_FAILED, "watch", "%s: %s", c->o->out, strerror(errno));
    return CLI_DONE;
}

static int prints(const struct consume *c)
{
    return c->o->json || c->o->show;
}

static int print_line(void *context, int64_t position, const struct consumer_item *item)
{
    struct consume *c = context;
    struct topic_parts topic;
    cJSON *payload = c->o->json ? NULL : cJSON_Parse(item->payload);
    char *line = c->o->json ? line_of(item, position) : NULL;
    const int good = line || payload;
    if (line)
        puts(line);
    else if (payload && topic_parse(item->topic, c->session->settings.base, &topic) == 0)
        show_item(&c->show, &topic, payload);
    free(line);
    cJSON_Delete(payload);
    c->printed = good ? position : c->printed;
    return good ? 0 : -ENOMEM;
}

/* Lines for a pipe come once as long as nobody kills us: what was printed is noted with the next
 * commit, so a kill repeats lines and never loses one. */
static void print_new(struct consume *c)
{
    if (!prints(c))
        return;
    (void)consumer_items(c->store, c->printed, print_line, c);
    fflush(stdout);
    c->stop |= ferror(stdout);
}

/* ---- transactions ---- */

static void open_link(struct consume *c);

/* The disk refused: nothing of the transaction is kept, nothing acknowledged. The broker sends it
 * again in a new session. */
static void give_back(struct consume *c, int rc)
{
    const char *text = consumer_error(c->store);
    fprintf(stderr, "nilmctl watch: %s; %zu messages are not acknowledged and come again\n",
            *text ? text : strerror(-rc), c->count);
    consumer_rollback(c->store);
    (void)cut_out(c);
    c->count = c->bytes = 0;
    link_destroy(c->session->link, 0);
    c->session->link = NULL;
    c->up = 0;
    for (int waited = 0; waited < RETRY_MS && !session_stopped(); waited += 100)
        usleep(100000);
    open_link(c);
}

static int begin(struct consume *c)
{
    return c->count > 0 ? 0 : consumer_begin(c->store);
}

static int finish(struct consume *c, struct output *out)
{
    int rc = append_out(c, out);
    if (rc == 0 && prints(c))
        rc = keep_numbers(c, "printed", c->printed, 0);
    if (rc == 0 && c->o->keep_days > 0 && cli_mono_ms() >= c->trim_at) {
        rc = consumer_trim(c->store, cli_now_ms() - c->o->keep_days * DAY_MS);
        c->trim_at = cli_mono_ms() + TRIM_MS;
    }
    return rc == 0 ? consumer_commit(c->store) : rc;
}

static void commit(struct consume *c)
{
    struct output out = {.c = c, .position = c->out_position, .bytes = c->out_bytes};
    if (c->count == 0)
        return;
    const int rc = finish(c, &out);
    if (rc < 0) {
        give_back(c, rc);
        return;
    }
    c->out_position = out.position;
    c->out_bytes = out.bytes;
    c->printed_kept = c->printed;
    for (size_t i = 0; i < c->count; i++)
        (void)link_accept(c->session->link, c->receipts[i]); /* refused: it comes again */
    c->count = c->bytes = 0;
    print_new(c);
}

/* A link_next that found nothing: notes what was printed since the last commit. */
static void rest(struct consume *c)
{
    if (!prints(c) || c->printed == c->printed_kept || consumer_begin(c->store) != 0)
        return;
    if (keep_numbers(c, "printed", c->printed, 0) == 0 && consumer_commit(c->store) == 0)
        c->printed_kept = c->printed;
    else
        consumer_rollback(c->store);
}

static void on_message(struct consume *c, const struct link_event *e)
{
    struct topic_parts topic;
    int rc = begin(c);
    errno = 0;
    cJSON *payload = cJSON_ParseWithLength(e->payload, e->payload_bytes);
    if (rc == 0 && !payload && errno == ENOMEM)
        rc = -ENOMEM;
    if (rc == 0 && topic_parse(e->topic, c->session->settings.base, &topic) == 0) {
        if (numbered(topic.kind))
            rc = take_item(c, &topic, e, payload);
        else if (topic.kind == TOPIC_STATUS)
            rc = take_status(c, &topic, payload);
    }
    cJSON_Delete(payload);
    if (rc == -EINVAL) { /* a name or number that no store takes */
        c->refused++;
        fprintf(stderr, "nilmctl watch: %s\n", consumer_error(c->store));
        rc = 0;
    }
    if (rc < 0) {
        give_back(c, rc);
        return;
    }
    c->receipts[c->count++] = e->receipt;
    c->bytes += e->payload_bytes;
    if (c->count == BATCH || c->bytes >= BATCH_BYTES)
        commit(c);
}

/* ---- the session ---- */

static void open_link(struct consume *c)
{
    static const char *const tails[] = {"event/+", "alert/+", "summary/+",
                                        "gap",     "report",  "status"};
    char why[CLI_WHY] = "", topic[TOPIC_BYTES];
    int rc = session_open(c->session, 0, 10, why, sizeof why);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0] && rc == 0; i++) {
        snprintf(topic, sizeof topic, "%s/%s/%s", c->session->settings.base,
                 c->o->device ? c->o->device : "+", tails[i]);
        rc = link_subscribe(c->session->link, topic);
    }
    if (rc != 0) {
        c->stop = cli_fail(CLI_FAILED, "watch", "%s", *why ? why : strerror(-rc));
        session_close(c->session);
    }
}

static void came_up(struct consume *c, const struct link_event *e)
{
    int64_t known = 0, unused;
    session_tell(c->session, e);
    c->up = c->ever_up = 1;
    *c->why = '\0';
    commit(c); /* of the session before; its receipts are void, the messages come again */
    (void)kept_numbers(c, "sessions", &known, &unused);
    if (known > 0 && !e->session_present)
        fprintf(stderr, "nilmctl watch: the broker has no session of ours any more: what was "
                        "published meanwhile does not come, and shows as holes (--report)\n");
    if (consumer_begin(c->store) == 0 &&
        (keep_numbers(c, "sessions", known + !e->session_present, 0) != 0 ||
         consumer_commit(c->store) != 0))
        consumer_rollback(c->store);
}

static void on_event(struct consume *c, const struct link_event *e)
{
    switch (e->type) {
    case LINK_UP:
        came_up(c, e);
        break;
    case LINK_DOWN:
        c->up = 0;
        if (strcmp(c->why, e->text) != 0)
            fprintf(stderr, "nilmctl watch: %s; trying again\n", e->text);
        snprintf(c->why, sizeof c->why, "%s", e->text);
        break;
    case LINK_REFUSED:
        fprintf(stderr, "nilmctl watch: %s\n", e->text);
        c->refused += e->receipt != 0;
        c->stop |= e->receipt == 0;
        (void)link_accept(c->session->link, e->receipt);
        break;
    case LINK_MESSAGE:
        on_message(c, e);
        break;
    default:
        break;
    }
}

/* The client id belongs to the store: with it the broker finds the session again. */
static int identify(struct consume *c)
{
    char id[sizeof c->session->client_id] = "";
    uint64_t random = 0;
    int rc = consumer_get(c->store, "client_id", id, sizeof id);
    if (c->o->client_id) {
        snprintf(id, sizeof id, "%s", c->o->client_id);
    } else if (rc == -ENOENT) {
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return -EIO;
        snprintf(id, sizeof id, "nilmctl-consumer-%016" PRIx64, random);
    } else if (rc < 0) {
        return rc;
    }
    snprintf(c->session->client_id, sizeof c->session->client_id, "%s", id);
    c->session->expiry_s = (uint32_t)(c->o->expiry_days * 86400);
    rc = consumer_begin(c->store);
    if (rc == 0)
        rc = consumer_set(c->store, "client_id", id);
    return rc == 0 ? consumer_commit(c->store) : rc;
}

static int loop(struct consume *c)
{
    const int64_t end = c->o->seconds > 0 ? cli_mono_ms() + c->o->seconds * 1000 : INT64_MAX;
    struct link_event event;
    while (!session_stopped() && !c->stop && cli_mono_ms() < end &&
           (c->o->count == 0 || c->stored < (uint64_t)c->o->count || c->count > 0)) {
        const int rc = link_next(c->session->link, &event, c->count > 0 ? 0 : 250);
        if (rc < 0)
            return cli_fail(CLI_FAILED, "watch", "the session cannot go on: %s", strerror(-rc));
        if (rc == LINK_NONE && c->count > 0)
            commit(c);
        else if (rc == LINK_NONE)
            rest(c);
        else
            on_event(c, &event);
    }
    if (!c->stop)
        commit(c);
    rest(c);
    if (c->stop)
        return CLI_FAILED;
    if (!c->ever_up && !session_stopped())
        return cli_fail(CLI_RETRY, "watch", "no connection: %s",
                        *c->why ? c->why : "no answer yet");
    if (c->o->count > 0 && c->stored < (uint64_t)c->o->count && !session_stopped())
        return cli_fail(CLI_TIMEOUT, "watch", "%" PRIu64 " of %" PRId64 " messages came in time",
                        c->stored, c->o->count);
    return CLI_DONE;
}

int consume_run(struct session *session, const struct consume_options *o)
{
    struct consume *c = calloc(1, sizeof *c);
    char why[CLI_WHY] = "";
    int64_t unused;
    if (!c)
        return cli_fail(CLI_RETRY, "watch", "out of memory");
    *c = (struct consume){.session = session, .o = o, .out_fd = -1};
    int code = CLI_DONE, rc = consumer_open(o->store, &c->store, why, sizeof why);
    if (rc == 0)
        rc = identify(c);
    if (rc == 0)
        rc = kept_numbers(c, "printed", &c->printed, &unused);
    if (rc < 0)
        code = cli_fail(rc == -EBUSY ? CLI_RETRY : CLI_FAILED, "watch", "%s: %s",
                        *why ? "the store" : o->store, *why ? why : strerror(-rc));
    else
        code = open_out(c);
    c->printed_kept = c->printed;
    if (code == CLI_DONE) {
        session_catch_signals();
        signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a full disk, not the end */
        c->show.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
        if (o->show && !o->json)
            show_heading(&c->show);
        print_new(c); /* committed before, and perhaps not printed */
        open_link(c);
        code = c->stop ? CLI_FAILED : loop(c);
        if (!o->json && c->ever_up)
            (void)consume_report_print(c->store, 0);
    }
    session_close(session);
    consumer_close(c->store);
    if (c->out_fd >= 0)
        close(c->out_fd);
    free(c);
    return code;
}
