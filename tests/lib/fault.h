/* fault.h - failures on demand, under everything in a test program that links it: the n-th
 * allocation fails, the n-th write, open, sync, rename, ... fails, or the power goes.
 *
 * Replaces malloc and the calls that change files, for libraries too (SQLite, cJSON). Calls are
 * counted in the order of the program; one thread. */
#ifndef TESTS_LIB_FAULT_H
#define TESTS_LIB_FAULT_H

#include <stdint.h>

/* From now on: the at-th allocation (0: the next) gives NULL; lasting: all after it too. at < 0:
 * none. */
void fault_allocations(int64_t at, int lasting);
/* Allocations since then. */
int64_t fault_allocations_seen(void);

/* Likewise for calls that change files below folder (absolute): open for writing, write, truncate,
 * sync, rename, unlink. They fail with error and do nothing. */
void fault_files(const char *folder, int64_t at, int lasting, int error);
int64_t fault_files_seen(void);

/* A disk that loses what was not synchronised. From fault_disk on, files below folder (all of them
 * closed) are watched; the at-th change and all later ones fail: the power is gone. */
void fault_disk(const char *folder, int64_t at);
/* The power is back: each write since the last synchronisation of its file is lost, torn at a
 * sector, or kept, each for itself; of creations, renames and removals since the last
 * synchronisation of their folder, the first so many happened. All files must be closed. Ends the
 * watching. */
void fault_power_back(uint64_t *random);

#endif
