/* place_live_impl.h - blocks of bytes that place_live.c and place_teach.c keep in the store.
 * Private to them.
 */
#ifndef AGENT_PLACE_LIVE_IMPL_H
#define AGENT_PLACE_LIVE_IMPL_H

#include "agent/place_house.h"
#include "agent/place_live.h"
#include "agent/place_store.h"
#include "storage/places.h"

#define PLACE_HOUR_MS 3600000
#define PLACE_HOUR_CELLS (PLACE_HOUR_MS / PLACE_LIVE_PERIOD_MS)
#define PLACE_HOUR_PULSES 64              /* in an hour; more say nothing new */
#define PLACE_HABIT_MAGIC 0x31626168u     /* "hab1" */
#define PLACE_PROTO_MAGIC 0x31756f68u     /* "hou1" */
#define PLACE_LIVE_VERSION "place.habits" /* a value that grows with each lesson */

struct habit_block {
    uint32_t magic, size;
    struct place_switch habit;
};

struct background_block {
    uint32_t magic, size;
    struct place_switch_background background;
};

struct proto_block {
    uint32_t magic, size;
    struct place_proto proto;
};

_Static_assert(sizeof(struct habit_block) <= PLACES_MAX_BYTES, "a habit fits into its row");
_Static_assert(sizeof(struct background_block) <= PLACES_MAX_BYTES, "a background fits");
_Static_assert(sizeof(struct proto_block) <= PLACES_MAX_BYTES, "a prototype fits");

struct place_kept_pulse {
    int32_t end_ms; /* in the hour */
    int32_t length_ms;
    float watts;
};

/* An hour of a meter: cells, and the pulses that ended in it. In the store without the count. */
struct place_hour {
    float watts[PLACE_HOUR_CELLS]; /* NAN: not known */
    struct place_kept_pulse pulses[PLACE_HOUR_PULSES];
    uint32_t pulse_count;
};

void place_hour_init(struct place_hour *h);
static inline size_t place_hour_bytes(uint32_t pulse_count)
{
    return PLACE_HOUR_CELLS * sizeof(float) + pulse_count * sizeof(struct place_kept_pulse);
}
/* Bytes of an older version have no pulses; of another length nothing is taken. */
void place_hour_decode(const void *data, size_t size, struct place_hour *out);

/* 0, or -ENOENT: none, or it is damaged. */
int place_live_read_proto(struct store *s, const char *meter, const char *appliance,
                          struct place_proto *out);

#endif
