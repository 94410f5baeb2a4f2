/* onnx_shape.c - operators that move axes and leave the numbers alone. */
#include <errno.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_graph.h"

static uint32_t find(const struct onnx_graph *g, enum onnx_role role)
{
    uint32_t i = 1;

    while (i < g->rank && g->axes[i].role != role)
        i++;
    return i; /* rank: there is none, which only happens to an axis of size 1 */
}

/* Gives the role to axis `to`, of size 1, when the axis that had it (if any) is of size 1 as well.
 */
static void claim(struct onnx_graph *g, enum onnx_role role, uint32_t to)
{
    uint32_t from = find(g, role);

    if (from != to && g->axes[to].role == ONNX_UNIT &&
        (from == g->rank || g->axes[from].size == 1)) {
        if (from < g->rank)
            g->axes[from].role = ONNX_UNIT;
        g->axes[to].role = role;
    }
}

int onnx_graph_settle(struct onnx_graph *g, uint32_t *time)
{
    if (g->flat || g->rank < 3 || g->rank > 4)
        return onnx_graph_refuse(g, "expected an input of 3 or 4 dimensions, found %u%s", g->rank,
                                 g->flat ? " after Flatten" : "");
    claim(g, ONNX_CHANNEL, 1);
    if (find(g, ONNX_TIME) == g->rank)
        claim(g, ONNX_TIME, g->rank - 1);
    *time = find(g, ONNX_TIME);
    if (g->axes[1].role != ONNX_CHANNEL || *time == g->rank)
        return onnx_graph_refuse(g, "expected channels on axis 1 and time on an axis after it");
    return 0;
}

int onnx_graph_flatten(struct onnx_graph *g)
{
    const uint32_t channel = find(g, ONNX_CHANNEL), time = find(g, ONNX_TIME);
    struct onnx_layer *l;
    int64_t axis = 1;
    int rc = 0;

    if (!strcmp(g->node->op_type, "Flatten"))
        rc = onnx_graph_int(g, "axis", 1, &axis);
    if (rc)
        return rc;
    if (axis != 1)
        return onnx_graph_refuse(g, "axis is %lld; only 1 is supported", (long long)axis);
    if (g->flat)
        return 0;
    if ((uint64_t)g->width * g->columns > MODEL_MAX_UNITS)
        return onnx_graph_refuse(g, "more than %u units", MODEL_MAX_UNITS);
    rc = onnx_graph_push(g, MODEL_FLATTEN, g->width * g->columns, 0, &l);
    if (rc)
        return rc;
    if (g->width > 1 && g->columns > 1 && channel < time)
        g->major_columns = g->columns;
    g->flat = 1;
    g->width *= g->columns;
    g->columns = 1;
    g->rank = 2;
    g->axes[1] = (struct onnx_axis){ONNX_CHANNEL, g->width};
    return 0;
}

/* The new sizes, with 0 (as before) and -1 (what is left) resolved. */
static int resolve(struct onnx_graph *g, const int64_t *target, uint32_t rank, uint32_t *sizes)
{
    const uint64_t total = (uint64_t)g->width * g->columns;
    uint64_t product = 1;
    uint32_t open = 0;

    if (target[0] != 0 && target[0] != -1 && target[0] != (int64_t)g->axes[0].size)
        return onnx_graph_refuse(g, "changes the batch dimension to %lld", (long long)target[0]);
    sizes[0] = g->axes[0].size;
    for (uint32_t i = 1; i < rank; i++) {
        int64_t v = target[i] == 0 && i < g->rank ? (int64_t)g->axes[i].size : target[i];
        if (v == -1 && !open && target[0] != -1) {
            open = i;
            continue;
        }
        if (v < 1 || v > (int64_t)total)
            return onnx_graph_refuse(g, "size %lld of dimension %u does not fit", (long long)v, i);
        sizes[i] = (uint32_t)v;
        product *= (uint64_t)v;
        if (product > total)
            return onnx_graph_refuse(g, "the new shape does not fit the old one");
    }
    if (open) {
        sizes[open] = (uint32_t)(total / product);
        product *= sizes[open];
    }
    return product == total ? 0 : onnx_graph_refuse(g, "the new shape does not fit the old one");
}

int onnx_graph_reshape(struct onnx_graph *g)
{
    int64_t target[ONNX_MAX_RANK], zero;
    uint32_t rank, sizes[ONNX_MAX_RANK], from = 1;
    struct onnx_axis axes[ONNX_MAX_RANK];
    int rc = onnx_graph_integers(g, 1, target, ONNX_MAX_RANK, &rank);

    if (!rc)
        rc = onnx_graph_int(g, "allowzero", 0, &zero);
    if (rc)
        return rc;
    if (zero || rank < 2)
        return onnx_graph_refuse(g, "expected two dimensions or more, and allowzero 0");
    rc = resolve(g, target, rank, sizes);
    if (rc)
        return rc;
    if (rank == 2)
        return onnx_graph_flatten(g);
    axes[0] = g->axes[0];
    for (uint32_t i = 1; i < rank; i++) { /* the same sizes in the same order, but for ones */
        axes[i] = (struct onnx_axis){ONNX_UNIT, 1};
        if (sizes[i] == 1)
            continue;
        while (from < g->rank && g->axes[from].size == 1)
            from++;
        if (g->flat || from == g->rank || g->axes[from].size != sizes[i])
            return onnx_graph_refuse(g, "mixes channels and time other than by flattening");
        axes[i] = g->axes[from++];
    }
    memcpy(g->axes, axes, rank * sizeof(*axes));
    g->rank = rank;
    return 0;
}

int onnx_graph_transpose(struct onnx_graph *g)
{
    struct onnx_axis axes[ONNX_MAX_RANK];
    const int64_t *perm;
    unsigned seen = 0;
    size_t count;
    int rc = onnx_graph_ints(g, "perm", &perm, &count);

    if (rc)
        return rc;
    if (count != g->rank || perm[0] != 0)
        return onnx_graph_refuse(g, "expected perm of %u dimensions with the batch first", g->rank);
    for (uint32_t i = 0; i < g->rank; i++) {
        if (perm[i] < 0 || perm[i] >= (int64_t)g->rank || (seen & 1u << perm[i]))
            return onnx_graph_refuse(g, "perm is no permutation");
        seen |= 1u << perm[i];
        axes[i] = g->axes[perm[i]];
    }
    memcpy(g->axes, axes, g->rank * sizeof(*axes));
    return 0;
}

/* The axes as bits: an attribute up to opset 12, an input since; negative ones count from the end
 * of `rank`. */
static int axes_of(struct onnx_graph *g, uint32_t rank, unsigned *bits)
{
    int64_t values[ONNX_MAX_RANK];
    const int64_t *list;
    size_t n;
    uint32_t count = 0;
    int rc = onnx_graph_ints(g, "axes", &list, &n);

    if (!rc && n > ONNX_MAX_RANK)
        rc = onnx_graph_refuse(g, "more than %u axes", ONNX_MAX_RANK);
    if (rc)
        return rc;
    if (n) {
        memcpy(values, list, n * sizeof(*values));
        count = (uint32_t)n;
    } else {
        rc = onnx_graph_integers(g, 1, values, ONNX_MAX_RANK, &count);
        if (rc)
            return rc;
    }
    *bits = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t a = values[i] < 0 ? values[i] + (int64_t)rank : values[i];
        if (a < 1 || a >= (int64_t)rank)
            return onnx_graph_refuse(g, "axis %lld: expected one after the batch",
                                     (long long)values[i]);
        *bits |= 1u << a;
    }
    return 0;
}

int onnx_graph_squeeze(struct onnx_graph *g)
{
    unsigned bits;
    uint32_t kept = 1;
    int rc = axes_of(g, g->rank, &bits);

    if (rc)
        return rc;
    for (uint32_t i = 1; i < g->rank; i++) {
        if (!(bits & 1u << i))
            g->axes[kept++] = g->axes[i];
        else if (g->axes[i].size != 1)
            return onnx_graph_refuse(g, "axis %u has size %u, not 1", i, g->axes[i].size);
    }
    g->rank = kept;
    if (kept == 2 && !g->flat)
        return g->layer_count ? onnx_graph_flatten(g) : 0;
    return kept >= 2 ? 0 : onnx_graph_refuse(g, "removes all dimensions but the batch");
}

int onnx_graph_unsqueeze(struct onnx_graph *g)
{
    struct onnx_axis axes[ONNX_MAX_RANK];
    uint32_t rank = g->rank, from = 1;
    unsigned bits;
    size_t n;
    const int64_t *list;
    int64_t values[ONNX_MAX_RANK];
    uint32_t count = 0;
    int rc = onnx_graph_ints(g, "axes", &list, &n);

    if (!rc && !n)
        rc = onnx_graph_integers(g, 1, values, ONNX_MAX_RANK, &count);
    if (rc)
        return rc;
    if (g->flat || n + count > ONNX_MAX_RANK - g->rank)
        return onnx_graph_refuse(g, "more than %u dimensions, or after Flatten", ONNX_MAX_RANK);
    rank += (uint32_t)n + count;
    rc = axes_of(g, rank, &bits);
    if (rc)
        return rc;
    axes[0] = g->axes[0];
    for (uint32_t i = 1; i < rank; i++) {
        if (!(bits & 1u << i) && from == g->rank)
            return onnx_graph_refuse(g, "names an axis twice");
        axes[i] = bits & 1u << i ? (struct onnx_axis){ONNX_UNIT, 1} : g->axes[from++];
    }
    memcpy(g->axes, axes, rank * sizeof(*axes));
    g->rank = rank;
    return 0;
}
