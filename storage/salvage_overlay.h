/* salvage_overlay.h - reads a damaged database with the pages of its schema taken from their copy
 * (schema_copy.h). The file itself is not changed. Private to storage/.
 */
#ifndef STORAGE_SALVAGE_OVERLAY_H
#define STORAGE_SALVAGE_OVERLAY_H

struct salvage_overlay;

/* 0: *vfs is the name of a VFS to open the database at path with. 1: there is no copy, or the
 * database is none of ours. -ENOMEM. */
int salvage_overlay_begin(const char *path, struct salvage_overlay **out, const char **vfs);
/* After the database was closed; NULL is allowed. */
void salvage_overlay_end(struct salvage_overlay *o);

#endif
