/* lib_released.h - SQL texts of released schemas. */
#ifndef TESTS_STORAGE_LIB_RELEASED_H
#define TESTS_STORAGE_LIB_RELEASED_H

/* Schema 1, and what every later version still has of it. */
extern const char released_tables_1[];

#endif
