/* engine_plan.h - which columns of which layer are computed when, and where they are kept. Private
 * to engine*.c.
 *
 * Streaming. A window that starts at grid sample s has its own grid of columns: behind pools with
 * the product S (the layer's stride), column j stands for the samples from s + j S on. Windows
 * start every `hop` samples, so a layer is asked for columns that start at multiples of g =
 * gcd(hop, S), and those of one window all start at the same place modulo S. They fall into S/g
 * phases; two windows share columns only if they have the same phase, which comes round every S/g
 * windows. When hop is a multiple of S there is one phase.
 *
 * Between two windows of one phase lie lcm(hop, S) samples, hop/g columns. So of the m columns that
 * a window needs in a layer, fresh = min(hop/g, m) are new; the others were in the phase's previous
 * window. The consumer of the layer computes its own fresh columns only, and for these needs `need`
 * columns at the end: fresh' + taps - 1 for a convolution, fresh' * pool for a pool, all m for the
 * dense layers. What is to be kept for a phase until its next turn is therefore need - fresh
 * columns, for a convolution behind another layer taps - 1, behind the last layer m - fresh, and
 * mostly nothing between a convolution and its pool. A turn lays kept and fresh columns side by
 * side in the scratch, lets the kernels run over contiguous memory, and saves the last need - fresh
 * columns.
 *
 * Columns that no output depends on (the remainder of a pool) are trimmed from m from the back to
 * the front, so that inside a window m_in = m_out * pool holds exactly. The trimmed samples at the
 * end of a window are kept with the input's columns.
 *
 * The start. The turns run before the first whole window, too, for windows that begin before the
 * first sample. Their columns from before the beginning are made from anything and worthless, but no
 * column that starts at or after the first sample depends on them, and a column is computed in the
 * first turn that contains it. So the first result costs no more than any other, and nothing
 * special happens.
 *
 * One whole window is the same plan with fresh = need = m and nothing kept, run by the same code.
 */
#ifndef INFERENCE_ENGINE_PLAN_H
#define INFERENCE_ENGINE_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

/* What one layer (or the input) does in a turn. */
struct engine_flow {
    uint32_t fresh;      /* columns computed in a turn */
    uint32_t kept;       /* columns kept per phase: need - fresh */
    uint32_t phases;     /* S / g; each divides that of the next layer */
    uint32_t slot_bytes; /* of the kept columns of one phase */
    size_t slots_at;     /* where the slots begin in a meter's state */
};

/* stages: the layers in front of FLATTEN. Index 0 is the input, index i + 1 the output of layer i.
 */
struct engine_plan {
    uint32_t stages;
    uint32_t columns[MODEL_MAX_LAYERS + 1]; /* m: needed in one window */
    struct engine_flow flow[MODEL_MAX_LAYERS + 1];
    uint32_t tail;       /* samples at the end of a window that no output depends on */
    uint32_t history;    /* columns of the input kept between turns */
    uint32_t turns;      /* after which phases repeat */
    size_t buffer_bytes; /* largest activation of any layer in a turn */
};

/* Plans turns every hop samples (1..window). slots_at of the flows are counted from state_from.
 * Returns the bytes of state up to the end of the last slot. */
size_t engine_plan_stream(const struct model *m, uint32_t hop, size_t state_from,
                          struct engine_plan *plan);

/* Plans one whole window. */
void engine_plan_whole(const struct model *m, struct engine_plan *plan);

#endif
