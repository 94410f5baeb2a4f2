/* lib_folder.h - a temporary folder of a test and files in it. */
#ifndef TESTS_AGENT_LIB_FOLDER_H
#define TESTS_AGENT_LIB_FOLDER_H

#include <stddef.h>

/* cmocka set-up and tear-down: makes a folder, its path in *state; removes it with everything in
 * it. */
int folder_setup(void **state);
int folder_teardown(void **state);

/* PATH/name in one of a few static buffers. */
const char *folder_path(void **state, const char *name);
/* Writes a file (and the folder before a slash in name). */
void folder_write(void **state, const char *name, const void *data, size_t size);
void folder_text(void **state, const char *name, const char *text);

#endif
