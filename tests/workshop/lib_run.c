/* lib_run.c - see lib_run.h. */
#include "lib_run.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/cli.h"

static void redirect(int from, int to)
{
    assert_true(from >= 0 && dup2(from, to) == to);
    close(from);
}

int run_text(int (*command)(int, char **), char **text, const char *const *arguments)
{
    char *argv[64] = {(char *)"command"}, path[] = "/tmp/nilm-run-XXXXXX";
    int argc = 1;
    for (; arguments[argc - 1]; argc++) {
        assert_true(argc < 62);
        argv[argc] = (char *)arguments[argc - 1];
    }
    fflush(stdout);
    fflush(stderr);
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    redirect(mkostemp(path, O_CLOEXEC), STDOUT_FILENO);
    redirect(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    int code = command(argc, argv);
    fflush(stdout);
    redirect(out, STDOUT_FILENO);
    redirect(err, STDERR_FILENO);
    void *data;
    size_t size;
    assert_int_equal(cli_read_file(path, 1 << 20, &data, &size), 0);
    unlink(path);
    *text = realloc(data, size + 1);
    (*text)[size] = '\0';
    return code;
}

cJSON *run_json(int (*command)(int, char **), const char *const *arguments)
{
    char *text;
    int code = run_text(command, &text, arguments);
    if (code != 0)
        fail_msg("exit code %d: %s", code, text);
    const char *end = NULL;
    cJSON *o = cJSON_ParseWithOpts(text, &end, 1); /* one object, nothing else */
    if (!cJSON_IsObject(o))
        fail_msg("not a JSON object: %s", text);
    free(text);
    return o;
}

double run_number(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsNumber(item))
        fail_msg("no number \"%s\"", key);
    return item->valuedouble;
}
