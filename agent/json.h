/* json.h - how this agent fills JSON objects: finite numbers, exact integers, valid UTF-8. Internal
 * to agent/.
 *
 * Every function adds one member to a cJSON object and returns 0, or -ENOMEM. A NULL object is
 * -ENOMEM too, so a chain of calls may be or-ed together and checked once.
 */
#ifndef AGENT_JSON_H
#define AGENT_JSON_H

#include <cjson/cJSON.h>
#include <stdint.h>

/* Bytes that are not UTF-8 (a file name, a text of a broker) become '?'. NULL counts as "". */
int json_text(cJSON *object, const char *name, const char *text);
/* Exact also beyond 2^53, where cJSON's own numbers (doubles) are not. */
int json_integer(cJSON *object, const char *name, int64_t value);
int json_unsigned(cJSON *object, const char *name, uint64_t value);
/* Rounded to a multiple of 1/per_unit (10: one decimal); not finite becomes 0, beyond +-1e15 is
 * cut. */
int json_number(cJSON *object, const char *name, double value, double per_unit);
/* Adds child, which object owns from here on; released on failure. */
int json_child(cJSON *object, const char *name, cJSON *child);
/* Prints without blanks into a new text (free()) and releases object; NULL when rc < 0 or memory is
 * short. */
char *json_finish(cJSON *object, int rc);

#endif
