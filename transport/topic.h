/* topic.h - MQTT topic names (SPEC.md section 3). Base is configurable, "nilm/v1" by default. */
#ifndef TRANSPORT_TOPIC_H
#define TRANSPORT_TOPIC_H

#include <stddef.h>

#define TOPIC_BYTES 256u
#define TOPIC_NAME_BYTES 64u

enum topic_kind {
    TOPIC_EVENT = 1, /* BASE/DEVICE/event/METER     agent -> all      */
    TOPIC_ALERT,     /* BASE/DEVICE/alert/METER     agent -> all      */
    TOPIC_SUMMARY,   /* BASE/DEVICE/summary/METER   agent -> all: a day, durable */
    TOPIC_GAP,       /* BASE/DEVICE/gap             agent -> all      */
    TOPIC_REPORT,    /* BASE/DEVICE/report          agent -> all: final states of updates, durable */
    TOPIC_STATUS,    /* BASE/DEVICE/status          retained, LWT     */
    TOPIC_MODEL,     /* BASE/DEVICE/model           retained: state of the model update */
    TOPIC_PUSH,      /* BASE/DEVICE/push            operator -> agent: a signed bundle */
    TOPIC_GROUP_PUSH, /* BASE/group/GROUP/push       operator -> agents of a group */
    TOPIC_COMMAND,   /* BASE/DEVICE/command         operator -> agent: JSON */
    TOPIC_REPLY      /* BASE/DEVICE/reply           agent -> operator */
};

/* A device, group or meter name: 1 to 63 of A-Z a-z 0-9 . _ - , not starting with '.' or '-'; a device is not "group".
 * 0 or -EINVAL. */
int topic_check_name(const char *name);
/* base: 1 to 3 levels of the same characters. */
int topic_check_base(const char *base);

/* Writes the topic. name: device (or group); meter: for EVENT, ALERT and SUMMARY. 0, -EINVAL, -ENOSPC. */
int topic_build(char *out, size_t size, const char *base, enum topic_kind kind, const char *name, const char *meter);

struct topic_parts {
    enum topic_kind kind;
    char name[TOPIC_NAME_BYTES];
    char meter[TOPIC_NAME_BYTES];
};
/* Takes a topic apart: 0, or -EBADMSG when it is none of ours. */
int topic_parse(const char *topic, const char *base, struct topic_parts *out);

#endif
