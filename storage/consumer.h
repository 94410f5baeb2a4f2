/* consumer.h - what a subscriber keeps of the streams of many devices: each numbered message once,
 * which numbers came, what was declared lost (SPEC 8). An SQLite file of its own, not the agent's.
 *
 * One thread. Errors are those of store.h; consumer_error has the text. What consumer_commit
 * reported as done survives SIGKILL and power loss. A damaged file is refused and never replaced:
 * its owner decides.
 */
#ifndef STORAGE_CONSUMER_H
#define STORAGE_CONSUMER_H

#include <stddef.h>
#include <stdint.h>

struct consumer;

struct consumer_item { /* a numbered message; texts are the caller's */
    const char *device, *topic;
    int64_t epoch;
    uint64_t seq;
    int64_t received_ms; /* Unix ms */
    const char *payload;
    size_t payload_bytes;
};

struct consumer_device {
    char device[64];
    uint64_t received, duplicates, conflicts; /* conflicts: duplicates with another content */
    int64_t first_ms, last_ms;                /* of receiving new messages; Unix ms */
    int64_t status_epoch;                     /* of the last status; -1: none */
    uint64_t status_next;    /* its next number: all smaller ones have been given out */
    uint64_t status_waiting; /* items that waited on the device then */
};

/* Opens or makes the file, for one process at a time (flock on PATH.lock; -EBUSY). -EBADMSG:
 * another program's file, or damaged. -EPROTO: of a newer version. why names the path. */
int consumer_open(const char *path, struct consumer **out, char *why, size_t why_size);
/* An existing one, for reading, also beside its owner. */
int consumer_open_readonly(const char *path, struct consumer **out, char *why, size_t why_size);
void consumer_close(struct consumer *c); /* rolls back; NULL is allowed */
const char *consumer_error(const struct consumer *c);

/* Everything below that writes needs a transaction. */
int consumer_begin(struct consumer *c);
int consumer_commit(struct consumer *c);
void consumer_rollback(struct consumer *c);

/* 1: stored; 0: the number came before (counted as duplicate); -errno. */
int consumer_add(struct consumer *c, const struct consumer_item *item);
/* The payload kept for a number: 1 and a copy with a NUL behind it (free()), 0: none, -errno. */
int consumer_payload(struct consumer *c, const char *device, int64_t epoch, uint64_t seq,
                     char **payload);
/* Counts a duplicate with another content. */
int consumer_conflict(struct consumer *c, const char *device);
/* count of the numbers from..to of the device are lost; said by item seq of that epoch. */
int consumer_declare(struct consumer *c, const char *device, int64_t epoch, uint64_t seq,
                     uint64_t from, uint64_t to, uint64_t count);
int consumer_status(struct consumer *c, const char *device, int64_t epoch, uint64_t next,
                    uint64_t waiting);
/* Forgets payloads received before that, never the numbers. */
int consumer_trim(struct consumer *c, int64_t before_ms);

/* Named texts of the owner, up to 255 bytes: 0, -ENOENT (get), -errno. */
int consumer_set(struct consumer *c, const char *name, const char *text);
int consumer_get(struct consumer *c, const char *name, char *text, size_t size);

/* Each calls back in order; a callback that returns other than 0 ends it and that is returned. */
int consumer_devices(struct consumer *c, int (*each)(void *, const struct consumer_device *),
                     void *context);
int consumer_ranges(struct consumer *c, const char *device,
                    int (*each)(void *, int64_t epoch, uint64_t from, uint64_t to), void *context);
int consumer_gaps(struct consumer *c, const char *device,
                  int (*each)(void *, int64_t epoch, uint64_t from, uint64_t to, uint64_t count),
                  void *context);
/* Items stored behind a position (0: all), in the order of storing; position: of each. */
int consumer_items(struct consumer *c, int64_t after,
                   int (*each)(void *, int64_t position, const struct consumer_item *),
                   void *context);

#endif
