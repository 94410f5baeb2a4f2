#include "agent/label.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/place_store.h"

#define TEXT_BYTES 512
#define TIME_VALUE "label.time_ms"

static int is_line(const char *text)
{
    return text && strchr(text, '\n') == NULL;
}

/* What is signed: lines, so nothing can be moved from one field into another. */
static int signed_text(const struct label_order *o, char out[TEXT_BYTES], char *why,
                       size_t why_size)
{
    const char *meter = o->meter ? o->meter : "";
    if (!is_line(o->device) || !is_line(meter) || !is_line(o->what) || !is_line(o->name)) {
        snprintf(why, why_size, "label: a text has a line break");
        return -EINVAL;
    }
    int n = snprintf(out, TEXT_BYTES, "nilm label 1\n%s\n%" PRId64 "\n%s\n%s\n%s\n", o->device,
                     o->time_ms, meter, o->what, o->name);
    if (n < 0 || n >= TEXT_BYTES) {
        snprintf(why, why_size, "label: texts are too long");
        return -EINVAL;
    }
    return n;
}

int label_sign(const struct label_order *o, const char *key_path, char key_id[PKI_KEY_ID_BYTES],
               char signature[LABEL_SIGNATURE_HEX], char *why, size_t why_size)
{
    char text[TEXT_BYTES];
    uint8_t bytes[PKI_SIGNATURE_BYTES];
    size_t size = sizeof bytes;
    int n = signed_text(o, text, why, why_size);
    if (n < 0)
        return n;
    int rc = pki_sign(key_path, text, (size_t)n, bytes, &size, key_id, why, why_size);
    if (rc == 0)
        pki_hex(bytes, size, signature);
    return rc;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int label_verify(const struct label_order *o, const char *ring_path, const char *key_id,
                 const char *signature, char *why, size_t why_size)
{
    uint8_t bytes[PKI_SIGNATURE_BYTES];
    char text[TEXT_BYTES];
    struct pki_ring *ring = NULL;
    size_t digits = strlen(signature);
    int n = signed_text(o, text, why, why_size), bad = digits % 2 != 0 || digits > 2 * sizeof bytes;
    if (n < 0)
        return n;
    for (size_t i = 0; !bad && i < digits; i += 2) {
        int high = hex_digit(signature[i]), low = hex_digit(signature[i + 1]);
        bad = high < 0 || low < 0;
        bytes[i / 2] = (uint8_t)((unsigned)(high & 15) << 4 | (unsigned)(low & 15));
    }
    if (bad) {
        snprintf(why, why_size, "signature: expected hexadecimal digits in lower case");
        return -EINVAL;
    }
    int rc = pki_ring_load(ring_path, &ring, why, why_size);
    if (rc == 0)
        rc = pki_verify(ring, key_id, text, (size_t)n, bytes, digits / 2, why, why_size);
    pki_ring_free(ring);
    return rc;
}

int label_take_time(struct store *s, const struct label_order *o, int64_t now_ms, char *why,
                    size_t why_size)
{
    int64_t last = 0;
    int rc = store_get(s, TIME_VALUE, &last);
    if (rc < 0 && rc != -ENOENT) {
        snprintf(why, why_size, "%s", store_error(s));
        return rc;
    }
    if (o->time_ms <= last) {
        snprintf(why, why_size, "time: an order as late as this one was taken before");
        return -ESTALE;
    }
    if (now_ms > 0 && o->time_ms > now_ms + LABEL_AHEAD_MS) {
        snprintf(why, why_size, "time: more than a day ahead of this device's clock");
        return -EINVAL;
    }
    rc = store_set(s, TIME_VALUE, o->time_ms);
    if (rc < 0)
        snprintf(why, why_size, "%s", store_error(s));
    return rc;
}

int label_apply(struct store *s, const struct label_order *o, int *runs, char *why, size_t why_size)
{
    int64_t run = 0;
    int end = 0;
    *runs = 0;
    if (sscanf(o->what, "%18" SCNd64 "%n", &run, &end) == 1 && o->what[end] == '\0' && run > 0) {
        int rc = place_store_correct(s, run, o->name, runs, why, why_size);
        *runs = rc == 0 ? *runs : 0;
        return rc;
    }
    return place_store_name(s, o->meter && o->meter[0] ? o->meter : NULL, o->what, o->name, runs,
                            why, why_size);
}
