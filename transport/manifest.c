/* manifest.c - the JSON manifest of a bundle: strict reading, canonical writing (cJSON). */
#include "transport/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "transport/tls.h"

#define EXACT 9007199254740991.0 /* 2^53 - 1: cJSON holds numbers as doubles */

enum {
    KEY_FAMILY,
    KEY_VERSION,
    KEY_NAME,
    KEY_SHA256,
    KEY_BYTES,
    KEY_WINDOW,
    KEY_PERIOD,
    KEY_SCALING,
    KEY_AGENT,
    KEY_CREATED,
    KEY_EXPIRES,
    KEY_DOWNGRADE,
    KEY_LABELS,
    KEY_COUNT
};

static const char *const keys[KEY_COUNT] = {
    "family",        "version",   "name",    "sha256",  "model_bytes",     "window", "period_ms",
    "input_scaling", "min_agent", "created", "expires", "allow_downgrade", "labels"};

/* Well-formed UTF-8 (RFC 3629) without control characters other than line breaks and tabs. */
static int text_ok(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text, *end = s + size;
    while (s < end) {
        unsigned char c = *s++;
        size_t more = c < 0x80                ? 0
                      : c >= 0xc2 && c < 0xe0 ? 1
                      : (c & 0xf0) == 0xe0    ? 2
                      : c >= 0xf0 && c < 0xf5 ? 3
                                              : 4;
        if (more > 3 || (size_t)(end - s) < more)
            return 0;
        if (c == 127 || (c < 32 && c != '\n' && c != '\r' && c != '\t'))
            return 0;
        if ((c == 0xe0 && *s < 0xa0) || (c == 0xed && *s > 0x9f) || (c == 0xf0 && *s < 0x90) ||
            (c == 0xf4 && *s > 0x8f))
            return 0; /* overlong, surrogates, beyond U+10FFFF */
        for (; more > 0; more--)
            if ((*s++ & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

static int take_text(const cJSON *v, const char *key, char *out, size_t size, char *why,
                     size_t why_size)
{
    size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;
    if (n == 0 || n >= size || strpbrk(v->valuestring, "\n\r\t"))
        return tls_why(why, why_size, EBADMSG,
                       "manifest: %s: expected a line of text of 1 to %zu bytes", key, size - 1);
    memcpy(out, v->valuestring, n + 1);
    return 0;
}

static int take_number(const cJSON *v, const char *key, double low, double high, double *out,
                       char *why, size_t why_size)
{
    /* The range first: converting a double beyond int64_t is undefined. NaN fails the comparison.
     */
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= low && v->valuedouble <= high) ||
        (double)(int64_t)v->valuedouble < v->valuedouble ||
        (double)(int64_t)v->valuedouble > v->valuedouble)
        return tls_why(why, why_size, EBADMSG,
                       "manifest: %s: expected a whole number from %.0f to %.0f", key, low, high);
    *out = v->valuedouble;
    return 0;
}

static int take_hash(const cJSON *v, char out[65], char *why, size_t why_size)
{
    if (!cJSON_IsString(v) || strlen(v->valuestring) != 64 ||
        strspn(v->valuestring, "0123456789abcdef") != 64)
        return tls_why(why, why_size, EBADMSG,
                       "manifest: sha256: expected 64 hexadecimal digits in lower case");
    memcpy(out, v->valuestring, 65);
    return 0;
}

/* "a.b.c", each 0 to 9999 without leading zeros. */
static int version_ok(const char *s)
{
    for (int part = 0; part < 3; part++) {
        size_t n = strspn(s, "0123456789");
        if (n < 1 || n > 4 || (n > 1 && s[0] == '0') || s[n] != (part < 2 ? '.' : '\0'))
            return 0;
        s += n + 1;
    }
    return 1;
}

static int take_labels(const cJSON *v, struct bundle_manifest *m, char *why, size_t why_size)
{
    int count = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0;
    if (count < 1 || count > (int)MANIFEST_MAX_LABELS)
        return tls_why(why, why_size, EBADMSG,
                       "manifest: labels: expected an array of 1 to %u texts", MANIFEST_MAX_LABELS);
    m->labels = calloc((size_t)count, sizeof *m->labels);
    if (!m->labels)
        return tls_why(why, why_size, ENOMEM, "manifest: labels: out of memory");
    for (const cJSON *label = v->child; label; label = label->next) {
        int rc =
            take_text(label, "labels", m->labels[m->label_count], sizeof *m->labels, why, why_size);
        if (rc != 0)
            return rc;
        for (uint32_t i = 0; i < m->label_count; i++)
            if (strcmp(m->labels[i], label->valuestring) == 0)
                return tls_why(why, why_size, EBADMSG, "manifest: labels: \"%s\" is there twice",
                               label->valuestring);
        m->label_count++;
    }
    return 0;
}

/* One key of the manifest. Numbers go through a double, ranges keep the conversions exact. */
static int take_key(int key, const cJSON *v, struct bundle_manifest *m, char *why, size_t size)
{
    const char *name = keys[key];
    double number = 0;
    int rc;
    switch (key) {
    case KEY_FAMILY:
        return take_text(v, name, m->family, sizeof m->family, why, size);
    case KEY_NAME:
        return take_text(v, name, m->name, sizeof m->name, why, size);
    case KEY_SCALING:
        return take_text(v, name, m->input_scaling, sizeof m->input_scaling, why, size);
    case KEY_AGENT:
        rc = take_text(v, name, m->min_agent, sizeof m->min_agent, why, size);
        if (rc == 0 && !version_ok(m->min_agent))
            rc = tls_why(why, size, EBADMSG, "manifest: min_agent: expected a version like 0.1.0");
        return rc;
    case KEY_SHA256:
        return take_hash(v, m->sha256, why, size);
    case KEY_LABELS:
        return take_labels(v, m, why, size);
    case KEY_DOWNGRADE:
        if (!cJSON_IsBool(v))
            return tls_why(why, size, EBADMSG, "manifest: allow_downgrade: expected true or false");
        m->allow_downgrade = cJSON_IsTrue(v);
        return 0;
    case KEY_VERSION:
        rc = take_number(v, name, 1, UINT32_MAX, &number, why, size);
        m->version = (uint32_t)number;
        return rc;
    case KEY_BYTES:
        rc = take_number(v, name, 1, BUNDLE_MAX_BYTES, &number, why, size);
        m->model_bytes = (uint64_t)number;
        return rc;
    case KEY_WINDOW:
        rc = take_number(v, name, 1, UINT32_MAX, &number, why, size);
        m->window = (uint32_t)number;
        return rc;
    case KEY_PERIOD:
        rc = take_number(v, name, 1, UINT32_MAX, &number, why, size);
        m->period_ms = (uint32_t)number;
        return rc;
    case KEY_CREATED:
        rc = take_number(v, name, 0, EXACT, &number, why, size);
        m->created_s = (int64_t)number;
        return rc;
    default: /* KEY_EXPIRES */
        rc = take_number(v, name, 0, EXACT, &number, why, size);
        m->expires_s = (int64_t)number;
        return rc;
    }
}

static int take_members(const cJSON *root, struct bundle_manifest *out, char *why, size_t why_size)
{
    unsigned seen = 0;
    for (const cJSON *v = root->child; v; v = v->next) {
        int key = 0, rc;
        while (key < KEY_COUNT && strcmp(keys[key], v->string) != 0)
            key++;
        if (key == KEY_COUNT)
            return tls_why(why, why_size, EBADMSG, "manifest: unknown key \"%.40s\"", v->string);
        if (seen & 1u << key)
            return tls_why(why, why_size, EBADMSG, "manifest: %s: is there twice", keys[key]);
        seen |= 1u << key;
        rc = take_key(key, v, out, why, why_size);
        if (rc != 0)
            return rc;
    }
    for (int key = 0; key < KEY_COUNT; key++)
        if (!(seen & 1u << key) && key != KEY_DOWNGRADE)
            return tls_why(why, why_size, EBADMSG, "manifest: %s: is missing", keys[key]);
    if (out->expires_s != 0 && out->expires_s <= out->created_s)
        return tls_why(why, why_size, EBADMSG, "manifest: expires: not after created");
    return 0;
}

int manifest_parse(const char *text, size_t size, struct bundle_manifest *out, char *why,
                   size_t why_size)
{
    const char *end = NULL;
    memset(out, 0, sizeof *out);
    /* \u0000 would end a C string early and hide what follows it. */
    if (!text_ok(text, size) || memmem(text, size, "\\u0000", 6))
        return tls_why(why, why_size, EBADMSG,
                       "manifest: expected UTF-8 text without control characters");
    cJSON *root = cJSON_ParseWithLengthOpts(text, size, &end, 0);
    int rc;
    if (!cJSON_IsObject(root) || end != text + size)
        rc = tls_why(why, why_size, EBADMSG,
                     "manifest: expected one JSON object and nothing after it (byte %zu)",
                     end ? (size_t)(end - text) : 0);
    else
        rc = take_members(root, out, why, why_size);
    cJSON_Delete(root);
    return rc;
}

void manifest_free(struct bundle_manifest *m)
{
    free(m->labels);
    m->labels = NULL;
    m->label_count = 0;
}

char *manifest_print(const struct bundle_manifest *m)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *labels = NULL;
    int ok = root && cJSON_AddStringToObject(root, keys[KEY_FAMILY], m->family) &&
             cJSON_AddNumberToObject(root, keys[KEY_VERSION], m->version) &&
             cJSON_AddStringToObject(root, keys[KEY_NAME], m->name) &&
             cJSON_AddStringToObject(root, keys[KEY_SHA256], m->sha256) &&
             cJSON_AddNumberToObject(root, keys[KEY_BYTES], (double)m->model_bytes) &&
             cJSON_AddNumberToObject(root, keys[KEY_WINDOW], m->window) &&
             cJSON_AddNumberToObject(root, keys[KEY_PERIOD], m->period_ms) &&
             cJSON_AddStringToObject(root, keys[KEY_SCALING], m->input_scaling) &&
             cJSON_AddStringToObject(root, keys[KEY_AGENT], m->min_agent) &&
             cJSON_AddNumberToObject(root, keys[KEY_CREATED], (double)m->created_s) &&
             cJSON_AddNumberToObject(root, keys[KEY_EXPIRES], (double)m->expires_s) &&
             cJSON_AddBoolToObject(root, keys[KEY_DOWNGRADE], m->allow_downgrade) &&
             (labels = cJSON_AddArrayToObject(root, keys[KEY_LABELS])) != NULL;
    for (uint32_t i = 0; ok && i < m->label_count; i++) {
        cJSON *label = cJSON_CreateString(m->labels[i]);
        ok = label && cJSON_AddItemToArray(labels, label);
    }
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}
