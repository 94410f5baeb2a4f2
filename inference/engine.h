/* engine.h - runs an INT8 model: whole windows, or sample by sample (streaming) for many meters.
 *
 * An engine is made once per model: zero points are folded into the biases and the layers put into
 * the form of the kernel set in use. It is immutable afterwards and may be shared by threads. What
 * belongs to one meter lives in a state block that the caller owns; two threads must not use one
 * state at the same time. After engine_create nothing here allocates, locks, or makes a system call
 * (engine_selftest excepted, which allocates its scratch).
 *
 * Streaming and whole-window results are the same bits, for every kernel set: see DESIGN.md
 * "Streaming".
 */
#ifndef INFERENCE_ENGINE_H
#define INFERENCE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

struct engine;

/* Makes an engine for m (INT8, from model_decode or keeping the same rules), which must outlive it.
 * hop: grid samples between two streaming results; 0 takes the model's own; any 1..window is
 * allowed. State is smallest when hop is a multiple of the product of the pools. Kernel set: the
 * best that the processor has, or the one that the environment variable NILM_CPU names: "scalar"
 * (plain C, everywhere), "avx2", "avxvnni" or "avx512vnni" (x86-64), "neon" or "neon_dotprod"
 * (ARM). Returns 0, -EINVAL (not INT8, bad hop), -ENOTSUP (NILM_CPU names an unknown or unavailable
 * set), -ENOMEM. */
int engine_create(const struct model *m, uint32_t hop, struct engine **out, char *why,
                  size_t why_size);
void engine_free(struct engine *e);

const char *engine_isa(const struct engine *e); /* "scalar", "avx2", ...: the kernel set in use */
uint32_t engine_hop(const struct engine *e);
const struct model *engine_model(const struct engine *e);

/* Bytes and alignment (a power of two, at most 64) of one meter's state, and of the scratch for a
 * call. The scratch holds nothing between calls: one per thread is enough for any number of meters.
 */
size_t engine_state_bytes(const struct engine *e);
size_t engine_scratch_bytes(const struct engine *e);
#define ENGINE_ALIGN 64u

/* Makes state (engine_state_bytes, aligned to ENGINE_ALIGN) an empty stream. */
void engine_reset(const struct engine *e, void *state);

/* Feeds one grid sample in watts (finite; a NaN or infinity counts as 0). Returns 1 when a result
 * is due: logits [class_count] is then written for the last `window` samples, or, when logits is
 * NULL, not computed: nobody wants this one, and the stream goes on all the same. Results come
 * after sample number window, window + hop, … Returns 0 otherwise. The first sample's predecessor
 * is itself (difference 0). */
int engine_push(const struct engine *e, void *state, void *scratch, float watts, float *logits);

/* engine_push for `count` meters, each with its next `samples` (1..hop) samples: watts[i * samples]
 * on go to states[i], and where a result is due among them (never two), due[i] becomes 1 and
 * logits[i * class_count] on is written, else 0. All states must be different. Dense layers run for
 * up to ENGINE_BATCH meters at once, so their weights are read once for all of them; the results
 * are engine_push's, bit for bit. More samples at a time mean that a state is fetched from memory
 * less often. scratch: engine_batch_scratch_bytes. Returns how many results there are. */
size_t engine_push_many(const struct engine *e, void *const *states, size_t count, void *scratch,
                        const float *watts, size_t samples, float *logits, uint8_t *due);
size_t engine_batch_scratch_bytes(const struct engine *e);
#define ENGINE_BATCH 8u

/* One whole window: watts [window + 1], the first being the predecessor of the window; logits
 * [class_count]. */
void engine_run(const struct engine *e, void *scratch, const float *watts, float *logits);

/* engine_run for measuring: calls mark when a layer is done, -1 being the input. A convolution and
 * the pool behind it that run as one are done together; the call then names the pool. */
typedef void engine_mark(void *context, int layer);
void engine_run_marked(const struct engine *e, void *scratch, const float *watts, float *logits,
                       engine_mark *mark, void *context);

/* As many multiply-accumulates as the kernel set's instructions can do, on registers alone,
 * `rounds` times a few dozen. Returns how many they were, or 0 when the set has no such loop. Their
 * time is the peak that a model's may be compared with. */
uint64_t engine_peak(const struct engine *e, uint32_t rounds);

/* Logits to probabilities with the model's head, in place allowed. Own exp() on IEEE doubles: the
 * same bits everywhere. */
void engine_probabilities(const struct engine *e, const float *logits, float *probabilities);

/* Runs every golden vector of the model, whole-window. Returns the number that failed to reproduce
 * bit for bit, or -ENOENT when the model has none, -ENOMEM. */
int engine_selftest(const struct engine *e);

#endif
