#include "agent/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates), 0 when it is
 * none. */
static size_t sequence(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        return (s[1] & 0xc0) == 0x80 ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        const unsigned char low = s[0] == 0xe0 ? 0xa0 : 0x80, high = s[0] == 0xed ? 0x9f : 0xbf;
        return s[1] >= low && s[1] <= high && (s[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        const unsigned char low = s[0] == 0xf0 ? 0x90 : 0x80, high = s[0] == 0xf4 ? 0x8f : 0xbf;
        return s[1] >= low && s[1] <= high && (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80 ? 4
                                                                                             : 0;
    }
    return 0;
}

int json_text(cJSON *object, const char *name, const char *text)
{
    char *clean = object ? strdup(text ? text : "") : NULL;
    if (!clean)
        return -ENOMEM;
    for (unsigned char *p = (unsigned char *)clean; *p;) {
        const size_t n = sequence(p);
        if (n == 0)
            *p = '?';
        p += n ? n : 1;
    }
    const int ok = cJSON_AddStringToObject(object, name, clean) != NULL;
    free(clean);
    return ok ? 0 : -ENOMEM;
}

static int raw(cJSON *object, const char *name, const char *text)
{
    return object && cJSON_AddRawToObject(object, name, text) ? 0 : -ENOMEM;
}

int json_integer(cJSON *object, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return raw(object, name, text);
}

int json_unsigned(cJSON *object, const char *name, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return raw(object, name, text);
}

int json_number(cJSON *object, const char *name, double value, double per_unit)
{
    char text[40];
    if (!isfinite(value))
        value = 0;
    value = fmax(-1e15, fmin(1e15, value));
    value = round(value * per_unit) / per_unit;
    snprintf(text, sizeof text, "%.15g", value == 0 ? 0.0 : value); /* no -0 */
    return raw(object, name, text);
}

int json_child(cJSON *object, const char *name, cJSON *child)
{
    if (object && child && cJSON_AddItemToObject(object, name, child))
        return 0;
    cJSON_Delete(child);
    return -ENOMEM;
}

char *json_finish(cJSON *object, int rc)
{
    char *text = object && rc == 0 ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    return text;
}
