/* lib_bundle.h - real signed bundles around the small model, for tests of updates. */
#ifndef TESTS_AGENT_LIB_BUNDLE_H
#define TESTS_AGENT_LIB_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

struct bundle_plan {
    uint32_t version;
    int swapped;        /* the labels of the small model exchanged: other bytes, same version */
    const char *family; /* of model and manifest; NULL: identify */
    const char *said_family;               /* of the manifest only; NULL: as the model's */
    uint32_t said_version, said_window;    /* of the manifest only; 0: as the model's */
    const char *said_scaling, *said_label; /* likewise; label 0 */
    const char *min_agent;                 /* NULL: 0.1.0 */
    int64_t expires_s;                     /* 0: never */
    int allow_downgrade;
    int no_golden, wrong_golden;
    const char *key; /* private key file; NULL: unsigned */
};

/* New buffer (free()). */
void bundle_make(const struct bundle_plan *plan, void **data, size_t *size);

#endif
