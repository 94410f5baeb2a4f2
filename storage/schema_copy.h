/* schema_copy.h - a copy of the pages that hold the schema, beside the database: PATH.schema (SPEC
 * 5.16). Private to storage/.
 *
 * Page 1 says where every table begins; without it nothing can be read. These pages change with
 * the schema only (but for counters in the header, which a reader can do without), so the copy is
 * written once, and again after a migration.
 */
#ifndef STORAGE_SCHEMA_COPY_H
#define STORAGE_SCHEMA_COPY_H

#include <stdint.h>

#include "storage/store_internal.h"

#define SCHEMA_COPY_PAGE 4096
#define SCHEMA_COPY_PAGES 32 /* more are not copied; today there are 4 */

struct schema_copy {
    uint32_t checksum; /* of the rows of the schema */
    uint32_t count;
    struct schema_copy_page {
        uint32_t number;
        unsigned char data[SCHEMA_COPY_PAGE];
    } pages[SCHEMA_COPY_PAGES]; /* page 1 is the first */
};

/* Writes the copy unless it is there and right. The handle is the only one. 0 or -errno: tried
 * again at the next start. */
int schema_copy_keep(struct store *s);

/* Reads the copy of the database at path into a new one (free()). -ENOENT, -EBADMSG. */
int schema_copy_load(const char *path, struct schema_copy **out);

/* The schema is about to change: before it does. */
void schema_copy_remove(const char *path);

#endif
