/* payload.h - JSON bodies and envelopes (SPEC.md section 4). All texts are new and to be released
 * with free(). Thread-safe. Numbers are finite: W to 0.1, Wh to 0.001, confidence to 0.0001,
 * seconds to 0.001.
 */
#ifndef AGENT_PAYLOAD_H
#define AGENT_PAYLOAD_H

#include <stdint.h>

#include "agent/event.h"
#include "agent/machine.h"
#include "storage/outbox.h"

/* Bodies as stored in the outbox; NULL when memory is short. run: id of the run in the history. */
char *payload_event(const char *meter, const struct event *e, int64_t run);
char *payload_alert(const char *meter, const struct alert *a);
char *payload_state(const char *meter, const struct machine_change *c, enum event_quality quality);

/* "trace", "clock", ... (SPEC 4.2). */
const char *payload_quality(enum event_quality quality);

/* Body of a report on a model. state: active, refused, rolled_back. family: "" when the bundle
 * could not be read. reason: "" unless refused. */
char *payload_report(const char *state, const char *family, uint32_t version, uint32_t from_version,
                     const char *name, const char *reason, int64_t time_ms);

/* Retained state of the model. sha256: hex of the whole bundle, or "". */
char *payload_model(const char *device, const char *state, const char *family, uint32_t version,
                    const char *name, const char *sha256, const char *reason, int64_t time_ms);

/* Body plus envelope, as published. -> NULL when memory is short (errno ENOMEM) or the body is
 * damaged (EBADMSG). */
char *payload_envelope(const char *device, const struct outbox_item *item, int replay);

#endif
