/* salvage.h - reads what can be read of a damaged database into a new one. Private to storage/.
 *
 * Every table of the new database is filled from the table of the same name: tables with row
 * numbers around their bad pages (from both ends, then number by number), small ones from their
 * beginning. Numbers that waited and cannot be read are declared lost; the counters are computed
 * anew. Memory is bounded and does not depend on the size of the file.
 */
#ifndef STORAGE_SALVAGE_H
#define STORAGE_SALVAGE_H

#include "storage/store_internal.h"

/* to: an empty database of the schema version of the damaged file. damaged: its path, opened with
 * its log and not changed. Fills the figures of report. 0 also when nothing could be read; -errno
 * when the new database could not be completed (a disk that fills up ends the copying early: what
 * was not copied counts as lost). */
int salvage_copy(struct store *to, const char *damaged, struct store_report *report);

/* Schema version of a damaged database as far as it can be told, 0: not ours, or nothing to read.
 */
int salvage_version(const char *damaged);

#endif
