/* lib_run.h - runs a command of the workshop as a program sees it: exit code and standard output. */
#ifndef TESTS_WORKSHOP_RUN_H
#define TESTS_WORKSHOP_RUN_H

#include <cjson/cJSON.h>

/* Runs a command with arguments (NULL-terminated, at most 60, without its name) and standard error away; *text is what it printed
 * (free()). Returns the exit code. */
int run_text(int (*command)(int, char **), char **text, const char *const *arguments);

/* The same for one that must succeed and print one JSON object (cJSON_Delete). */
cJSON *run_json(int (*command)(int, char **), const char *const *arguments);

/* A member that must be a number. */
double run_number(const cJSON *o, const char *key);

#endif
