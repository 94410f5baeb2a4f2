/* summaries.h - the last local day of each meter whose summary was stored.
 *
 * Written in the transaction of the summary (store_begin), so that each day is told once. Errors as
 * in store.h; an empty name is -EINVAL.
 */
#ifndef STORAGE_SUMMARIES_H
#define STORAGE_SUMMARIES_H

#include <stdint.h>

#include "storage/store.h"

/* Days since 1970-01-01. get: 0, or -ENOENT (day untouched). */
int summaries_get(struct store *s, const char *meter, int32_t *day);
int summaries_put(struct store *s, const char *meter, int32_t day);

#endif
