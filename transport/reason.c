/* reason.c - MQTT codes in words (MQTT 5 section 2.4, MQTT 3.1.1 section 3.2.2.3). */
#include "transport/reason.h"

#include <stddef.h>

struct name {
    int code;
    const char *words;
};

static const char *find(const struct name *names, size_t count, int code)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].code == code)
            return names[i].words;
    return NULL;
}

const char *reason_text(int code)
{
    static const struct name names[] = {
        {0x00, "normal disconnection"},
        {0x80, "unspecified error"},
        {0x81, "malformed packet"},
        {0x82, "protocol error"},
        {0x83, "the broker refuses it for reasons of its own"},
        {0x87, "not authorised: the broker's access rules do not allow it"},
        {0x89, "the broker is busy"},
        {0x8b, "the broker is shutting down"},
        {0x8d, "the broker heard nothing from us within the keepalive time"},
        {0x8e, "another client with our client id took over the session (two devices with one "
               "name?)"},
        {0x8f, "the topic filter is not valid"},
        {0x90, "the topic name is not accepted"},
        {0x91, "the packet id is in use"},
        {0x93, "more messages in flight than the broker allows"},
        {0x95, "the packet is larger than the broker allows"},
        {0x96, "messages come faster than the broker allows"},
        {0x97, "a quota of the broker is exceeded"},
        {0x98, "ended by an administrator of the broker"},
        {0x99, "the payload format is not valid"},
        {0x9a, "the broker keeps no retained messages"},
        {0x9b, "the broker does not support this QoS"},
        {0x9c, "use another server for now"},
        {0x9d, "the server has moved"},
        {0x9f, "connections come faster than the broker allows"},
        {0xa0, "longest connection time reached"},
        {0xa2, "the broker does not support wildcard subscriptions"},
    };
    const char *words = find(names, sizeof names / sizeof names[0], code);
    return words ? words : "a reason this program does not know";
}

const char *reason_connack(int code)
{
    static const struct name names[] = {
        {1, "it does not speak this version of MQTT"},
        {2, "it does not accept our client id"},
        {3, "it is not available"},
        {4, "wrong user name or password"},
        {5, "not authorised: it does not know this certificate or user, or does not allow it"},
        {0x84, "it does not speak this version of MQTT"},
        {0x85, "it does not accept our client id"},
        {0x86, "wrong user name or password"},
        {0x87, "not authorised: it does not know this certificate or user, or does not allow it"},
        {0x88, "it is not available"},
        {0x8a, "this client is banned"},
        {0x8c, "wrong authentication method"},
    };
    const char *words = find(names, sizeof names / sizeof names[0], code);
    return words ? words : reason_text(code);
}

int reason_is_version(int code)
{
    return code == 1 || code == 0x84;
}
