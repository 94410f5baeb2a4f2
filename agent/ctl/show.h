/* show.h - one received message as one clear line for people (watch), on standard output.
 *
 * Payloads come from the network: missing or wrong fields show as nothing or 0, control characters as '?'. */
#ifndef AGENT_CTL_SHOW_H
#define AGENT_CTL_SHOW_H

#include <cjson/cJSON.h>

#include "transport/topic.h"

struct show {
    int colour;    /* the terminal takes ANSI colours */
    int duplicate; /* received before */
};

/* The heading of the columns of events. */
void show_heading(const struct show *s);
/* An event, alert, gap or report; anything else as its state.
 * payload: an object; its texts are changed in place (made harmless). */
void show_item(const struct show *s, const struct topic_parts *topic, const cJSON *payload);

#endif
