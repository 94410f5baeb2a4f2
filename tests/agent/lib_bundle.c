#include "agent/lib_bundle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/candidate.h"
#include "lib/small_model.h"
#include "transport/bundle.h"

void bundle_make(const struct bundle_plan *plan, void **data, size_t *size)
{
    char why[320] = "";
    void *model_bytes, *again, *plain;
    size_t model_size, plain_size;
    struct model *m;
    small_model_encode(plan->version, plan->swapped, plan->no_golden ? 0 : 2, plan->wrong_golden,
                       &model_bytes, &model_size);
    assert_int_equal(model_decode(model_bytes, model_size, &m, why, sizeof why), 0);
    struct model copy = *m;
    if (plan->family) {
        snprintf(copy.family, sizeof copy.family, "%s", plan->family);
        assert_int_equal(model_encode(&copy, &again, &model_size, why, sizeof why), 0);
        free(model_bytes);
        model_bytes = again;
    }
    char labels[3][32];
    memcpy(labels, m->labels, sizeof labels);
    if (plan->said_label)
        snprintf(labels[0], sizeof labels[0], "%s", plan->said_label);
    struct bundle_manifest manifest = {.version =
                                           plan->said_version ? plan->said_version : plan->version,
                                       .window = plan->said_window ? plan->said_window : m->window,
                                       .period_ms = m->period_ms,
                                       .created_s = 1700000000,
                                       .expires_s = plan->expires_s,
                                       .allow_downgrade = plan->allow_downgrade,
                                       .label_count = m->class_count,
                                       .labels = labels};
    snprintf(manifest.family, sizeof manifest.family, "%s",
             plan->said_family ? plan->said_family : copy.family);
    snprintf(manifest.name, sizeof manifest.name, "small %u", plan->version);
    snprintf(manifest.min_agent, sizeof manifest.min_agent, "%s",
             plan->min_agent ? plan->min_agent : "0.1.0");
    assert_int_equal(candidate_scaling(m, manifest.input_scaling, sizeof manifest.input_scaling),
                     0);
    if (plan->said_scaling)
        snprintf(manifest.input_scaling, sizeof manifest.input_scaling, "%s", plan->said_scaling);
    assert_int_equal(
        bundle_build(&manifest, model_bytes, model_size, &plain, &plain_size, why, sizeof why), 0);
    free(model_bytes);
    model_free(m);
    if (!plan->key) {
        *data = plain;
        *size = plain_size;
        return;
    }
    assert_int_equal(bundle_sign(plain, plain_size, plan->key, data, size, why, sizeof why), 0);
    free(plain);
}
