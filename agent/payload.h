/* payload.h - JSON bodies and envelopes (SPEC.md section 4). All texts are new and to be released with free(). */
#ifndef AGENT_PAYLOAD_H
#define AGENT_PAYLOAD_H

#include <stdint.h>

#include "agent/event.h"
#include "storage/outbox.h"

/* Bodies as stored in the outbox; NULL when memory is short. run: id of the run in the history. */
char *payload_event(const char *meter, const struct event *e, int64_t run);
char *payload_alert(const char *meter, const struct alert *a);
/* Body plus envelope, as published. -> NULL when memory is short or the body is damaged. */
char *payload_envelope(const char *device, const struct outbox_item *item, int replay);

#endif
