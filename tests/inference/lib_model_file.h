/* lib_model_file.h - takes model files apart and breaks them on purpose. */
#ifndef TESTS_INFERENCE_LIB_MODEL_FILE_H
#define TESTS_INFERENCE_LIB_MODEL_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

/* An own CRC-32, bit by bit, so that the file's is not checked with itself. */
uint32_t model_file_crc(const unsigned char *data, size_t size);

/* Puts size and check sum right after a change, so that the reader gets as far as the change
 * itself. */
void model_file_seal(unsigned char *file, size_t size);

/* Where section `tag` begins and how long it is. */
size_t model_file_section(const unsigned char *file, const char *tag, size_t *length);

/* Encodes m; the bytes are the caller's. Fails the test when it cannot. */
unsigned char *model_file_encode(const struct model *m, size_t *size);

#endif
