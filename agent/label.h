/* label.h - a person's word on a load or a run, as an order that somebody signed: for the MQTT
 * command `label` (SPEC 4.9). The same bytes are signed by nilmctl and checked by the agent.
 *
 * An order names its device and its time. A device takes each time once and only forward, so an
 * order that was recorded on the way cannot be played again, on it or on another device.
 */
#ifndef AGENT_LABEL_H
#define AGENT_LABEL_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"
#include "transport/pki.h"

#define LABEL_SIGNATURE_HEX (2 * PKI_SIGNATURE_BYTES + 1)
#define LABEL_AHEAD_MS 86400000 /* how far an order may be ahead of a clock that is set */

struct label_order {
    const char *device;
    int64_t time_ms;   /* Unix; later than that of every order before */
    const char *meter; /* "" or NULL: the one that has such a load */
    const char *what;  /* unknown-N, a name, or the number of a run */
    const char *name;  /* what it is to be called */
};

/* Signs with a private key: key_id and signature (hex). 0 or -errno with the reason. */
int label_sign(const struct label_order *o, const char *key_path, char key_id[PKI_KEY_ID_BYTES],
               char signature[LABEL_SIGNATURE_HEX], char *why, size_t why_size);

/* Whether a key of the ring (path) signed this order: 0, -ENOKEY, -EKEYREJECTED, -EINVAL (texts
 * that cannot be signed, no hex), or an error of the ring. */
int label_verify(const struct label_order *o, const char *ring_path, const char *key_id,
                 const char *signature, char *why, size_t why_size);

/* Does what the order says, without looking at device, time or signature. *runs: how many runs of
 * the history were renamed. Errors as in place_store.h. */
int label_apply(struct store *s, const struct label_order *o, int *runs, char *why,
                size_t why_size);

/* Takes the order's time: -ESTALE when one as late was taken before, -EINVAL when it is too far
 * ahead of now_ms (0: the clock is not set). */
int label_take_time(struct store *s, const struct label_order *o, int64_t now_ms, char *why,
                    size_t why_size);

#endif
