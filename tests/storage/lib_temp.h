/* lib_temp.h - a temporary folder per test, and the few lines that every storage test repeats. */
#ifndef TESTS_STORAGE_LIB_TEMP_H
#define TESTS_STORAGE_LIB_TEMP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* needs those before it */

#include "storage/outbox.h"
#include "storage/store.h"

/* cmocka set-up and tear-down: *state is the path of a fresh folder, removed with all it holds. */
int temp_setup(void **state);
int temp_teardown(void **state);

/* Before the tests, where they are many and small: folders in memory when there is some. */
void temp_in_memory(void);

/* FOLDER/NAME, in one of eight static buffers. */
const char *temp_path(void **state, const char *name);

/* Files in the folder whose name holds part. */
int temp_count(void **state, const char *part);

/* Opens FOLDER/nilmd.db, and fails the test when that fails. report may be NULL. */
struct store *temp_open(void **state, struct store_report *report);

/* Appends {"n":number} and returns its sequence number; fails the test on an error. */
uint64_t temp_append(struct store *s, enum outbox_kind kind, int64_t number);

/* Whole file into a new buffer, and back. */
char *temp_read(const char *path, size_t *size);
void temp_write(const char *path, const void *data, size_t size);

/* xorshift64*: the same numbers in every run. */
uint64_t temp_random(uint64_t *state);

#endif
