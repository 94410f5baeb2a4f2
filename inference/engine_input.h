/* engine_input.h - from watts to the int8 columns that the first layer reads. Private to engine*.c.
 *
 * All channels of a model that see the same number (the watts, or the difference to the sample
 * before) share one table: their thresholds merged in ascending order, and for each interval
 * between two of them the levels of all these channels, packed. One search finds all levels of a
 * sample.
 *
 * Floats are compared as integers: the bits of a float, with those of negative ones taken as
 * magnitudes below zero, are integers in the order of the floats, and 0 and -0 are the same one.
 * The top bits of such an integer choose a cell of an index, which says how many thresholds lie
 * below the cell; halvings inside the cell find the rest. Cells are spaced like floats, fine near
 * zero and coarse far away, as thresholds are. There are as many halvings as the fullest cell
 * needs, 1 or 2 with the workshop's thresholds and 11 with the worst ones, and every sample takes
 * the same time.
 */
#ifndef INFERENCE_ENGINE_INPUT_H
#define INFERENCE_ENGINE_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

#define ENGINE_INPUT_CELLS 8192u
#define ENGINE_INPUT_BLOCK 64u /* samples at a time */

struct engine_input_table {
    uint32_t count;   /* distinct thresholds; 0: no channel uses the table */
    int32_t least;    /* just below the first threshold, as an integer in the order of floats */
    int32_t most;     /* the last threshold */
    uint32_t shift;   /* cell = (integer - least) >> shift */
    uint32_t step;    /* of the first halving, a power of two, at most 1024 */
    uint32_t *bounds; /* [count + step] thresholds less `least`, then UINT32_MAX */
    uint64_t
        *levels; /* [count + 1]: byte c is channel c's level, or 0 if it is not of this table */
    uint16_t cells[ENGINE_INPUT_CELLS]; /* thresholds below each cell */
};

/* Made once per model, read by all threads. */
struct engine_input {
    uint32_t channels;
    struct engine_input_table watts, differences;
    void *memory; /* of the tables' arrays */
};

/* Makes the tables for an INT8 model. 0 or -ENOMEM; to be released in either case. */
int engine_input_create(const struct model *m, struct engine_input *out);
void engine_input_free(struct engine_input *input);

/* n (1..ENGINE_INPUT_BLOCK) columns [n][channels] from finite watts; watts[-1] is the sample before
 * the first. */
void engine_input_columns(const struct engine_input *input, const float *watts, size_t n,
                          int8_t *columns);

#endif
