/* salvage_internal.h - shared by salvage.c and salvage_settle.c. Private. */
#ifndef STORAGE_SALVAGE_INTERNAL_H
#define STORAGE_SALVAGE_INTERNAL_H

#include "storage/store_internal.h"

struct salvage {
    struct store *to;
    sqlite3 *from; /* the damaged database */
    struct store_report *report;
    int gaps_unread; /* the ledger of gaps has a bad place */
    uint64_t batch;  /* rows not yet committed */
    int full;        /* -errno: the new database takes no more */
};

/* Puts the new database in order: rows whose check sum does not fit go, what is lost enters the
 * ledger of gaps, and the counters are counted. 0 or -errno. */
int salvage_settle(struct salvage *job);

#endif
