/* Options, help, files of the workshop's commands (cli.h). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/cli.h"

static int flag, choice;
static const char *text, *file;
static uint32_t count;
static uint64_t seed;
static float rate;

static int parse(const char *const *arguments)
{
    static const char *const choices[] = {"none", "day", NULL};
    struct cli_option options[] = {
        {.name = "flag", .type = CLI_FLAG, .value = &flag, .help = "a flag"},
        {.name = "text", .type = CLI_STRING, .value = &text, .argument = "TEXT", .help = "a text"},
        {.name = "count",
         .type = CLI_UINT,
         .value = &count,
         .argument = "N",
         .help = "a count",
         .low = 1,
         .high = 100},
        {.name = "seed", .type = CLI_UINT64, .value = &seed, .argument = "N", .help = "a seed"},
        {.name = "rate",
         .type = CLI_FLOAT,
         .value = &rate,
         .argument = "X",
         .help = "a rate",
         .low = 0,
         .high = 1},
        {.name = "split",
         .type = CLI_CHOICE,
         .value = &choice,
         .choices = choices,
         .help = "a choice"},
        {.name = NULL}};
    struct cli_command command = {.name = "test",
                                  .usage = "FILE",
                                  .summary = "Tests.",
                                  .options = options,
                                  .positional = "FILE",
                                  .positional_min = 1,
                                  .positional_max = 1,
                                  .positional_values = &file};
    char *argv[16] = {(char *)"test"};
    int argc = 1;
    flag = choice = 0;
    text = file = NULL;
    count = 5;
    seed = 1;
    rate = 0.5f;
    for (; arguments[argc - 1]; argc++)
        argv[argc] = (char *)arguments[argc - 1];
    fflush(stderr);
    fflush(stdout);
    int err = dup(STDERR_FILENO),
        out = dup(STDOUT_FILENO); /* what is said to people is not this test's subject */
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(null >= 0 && dup2(null, STDERR_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0);
    close(null);
    int rc = cli_parse(&command, argc, argv);
    fflush(stdout);
    dup2(err, STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    close(err);
    close(out);
    return rc;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static void test_values(void **state)
{
    (void)state;
    assert_int_equal(PARSE("f"), CLI_RUN);
    assert_true(flag == 0 && text == NULL && count == 5 && seed == 1 && rate == 0.5f &&
                choice == 0);
    assert_string_equal(file, "f");
    assert_int_equal(PARSE("--flag", "--text", "a=b", "--count=7", "f", "--seed",
                           "18446744073709551615", "--rate=0.25", "--split", "day"),
                     CLI_RUN);
    assert_true(flag == 1 && count == 7 && seed == UINT64_MAX && rate == 0.25f && choice == 1);
    assert_string_equal(text, "a=b");
    assert_int_equal(PARSE("--text=", "--", "--flag"), CLI_RUN);
    assert_string_equal(text, "");
    assert_string_equal(file, "--flag");
    assert_int_equal(PARSE("-"), CLI_RUN);
    assert_int_equal(PARSE("--text", "--flag", "f"), CLI_RUN); /* a value may look like an option */
    assert_string_equal(text, "--flag");
}

static void test_wrong_usage(void **state)
{
    (void)state;
    assert_int_equal(parse((const char *const[]){NULL}), CLI_USAGE);
    assert_int_equal(PARSE("f", "g"), CLI_USAGE);
    assert_int_equal(PARSE("f", "-x"), CLI_USAGE);
    assert_int_equal(PARSE("f", "--nope"), CLI_USAGE);
    assert_int_equal(PARSE("f", "--fla"), CLI_USAGE);
    assert_int_equal(PARSE("f", "--flag=1"), CLI_USAGE);
    assert_int_equal(PARSE("f", "--text"), CLI_USAGE);
    static const char *const counts[] = {
        "0", "101", "-1", "+1", " 1", "1 ", "1.5", "", "x", "4294967297", "99999999999999999999"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        assert_int_equal(PARSE("f", "--count", counts[i]), CLI_USAGE);
    static const char *const rates[] = {"-0.1", "1.1", "nan", "inf", "", "0.5x", "1e99"};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        assert_int_equal(PARSE("f", "--rate", rates[i]), CLI_USAGE);
    assert_int_equal(PARSE("f", "--seed", "18446744073709551616"), CLI_USAGE);
    assert_int_equal(PARSE("f", "--split", "da"), CLI_USAGE);
    assert_int_equal(PARSE("--nope", "--help"), CLI_DONE);
}

static void test_files(void **state)
{
    char folder[] = "/tmp/nilm-cli-XXXXXX", path[64];
    void *data;
    size_t size;
    struct stat status;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/f", folder);
    assert_int_equal(cli_read_file(path, 10, &data, &size), -ENOENT);
    assert_int_equal(cli_write_file(path, "0123456789", 10), 0);
    assert_int_equal(cli_write_file(path, "abc", 3), 0);
    assert_int_equal(cli_read_file(path, 3, &data, &size), 0);
    assert_int_equal(size, 3);
    assert_memory_equal(data, "abc", 3);
    free(data);
    assert_int_equal(cli_read_file(path, 2, &data, &size), -EFBIG);
    assert_int_equal(stat(path, &status), 0);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(status.st_mode & 0777, 0666 & ~mask);
    assert_int_equal(cli_read_file(folder, 100, &data, &size), -EISDIR);
    assert_int_equal(cli_write_file("/nonexistent/folder/f", "x", 1), -ENOENT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
}

static void test_codes(void **state)
{
    (void)state;
    assert_int_equal(cli_code(0), CLI_DONE);
    assert_int_equal(cli_code(-ENOENT), CLI_FAILED);
    assert_int_equal(cli_code(-ENOMEM), CLI_RETRY);
    assert_int_equal(cli_code(-ENOSPC), CLI_RETRY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_wrong_usage),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
