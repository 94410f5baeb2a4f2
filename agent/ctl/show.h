/* show.h - one received message as one clear line for people (watch). */
#ifndef AGENT_CTL_SHOW_H
#define AGENT_CTL_SHOW_H

#include <cjson/cJSON.h>

#include "transport/topic.h"

struct show {
    int colour;    /* the terminal takes ANSI colours */
    int duplicate; /* received before */
};

/* The heading of the columns. */
void show_heading(const struct show *s);
/* An event, alert, gap or report; anything else as its topic and text. Texts are made harmless for the terminal. */
void show_item(const struct show *s, const struct topic_parts *topic, const cJSON *payload);

#endif
