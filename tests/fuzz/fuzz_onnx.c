/* fuzz_onnx.c - the ONNX importer: a file is refused with a reason, or becomes a network that goes
 * out as ONNX and comes back with the same bits, and that runs. */
#include "inference/workshop/onnx.h"

#include <errno.h>
#include <math.h>

#include "fuzz/fuzz.h"
#include "inference/workshop/convert.h"

#define MOST_WORK 2000000u /* weights times columns of a network that is run */

static void check_round_trip(const struct net *net)
{
    struct model m = {.family = "identify", .channel_count = net->channels};
    struct net *again;
    void *data;
    size_t size;
    char why[512] = "";

    FUZZ_CHECK(convert_to_model(net, &m) == 0);
    FUZZ_CHECK(onnx_export(&m, &data, &size) == 0);
    if (onnx_import(data, size, net->head, &again, why, sizeof why) != 0) {
        fprintf(stderr, "%s\n", why);
        FUZZ_CHECK(!"comes back");
    }
    FUZZ_CHECK(again->head == net->head && again->window == net->window);
    FUZZ_CHECK(again->param_count == net->param_count);
    FUZZ_CHECK(memcmp(again->params, net->params, net->param_count * sizeof(float)) == 0);
    net_free(again);
    free(data);
}

static void check_runs(const struct net *net)
{
    const struct net_mode deployed = {0};
    struct net_work *work;

    FUZZ_CHECK(net_work_create(net, 1, &work) == 0);
    for (uint32_t i = 0; i < net->window * net->channels; i++)
        net_work_input(work)[i] = (float)(i % 7) * 0.25f;
    FUZZ_CHECK(net_forward(net, work, 1, &deployed));
    net_work_free(work);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    char why[512] = "";
    struct net *net;
    int rc, finite = 1;

    FUZZ_CHECK(exact);
    if (size)
        memcpy(exact, data, size);
    rc = onnx_import(exact, size, MODEL_SOFTMAX, &net, why, sizeof why);
    free(exact);
    FUZZ_CHECK((rc == 0) == (net != NULL));
    if (rc != 0) {
        FUZZ_CHECK(why[0]);
        return 0;
    }
    for (size_t i = 0; i < net->param_count; i++)
        finite &= isfinite(net->params[i]) != 0;
    FUZZ_CHECK(finite);
    if ((uint64_t)net->param_count * net->window <= MOST_WORK) {
        check_round_trip(net);
        check_runs(net);
    }
    net_free(net);
    return 0;
}
