/* compare_stage.c - runs the stages of the comparison, each once. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "inference/workshop/compare.h"
#include "inference/workshop/dataset_files.h"

#include <fcntl.h>

enum { HASH_BYTES = 24, MAX_FILE = 64 << 20 };

/* FNV-1a, 64 bits: tells whether a file is still the one it was, not whether somebody forged it. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

#define HASH_START 0xcbf29ce484222325u

static void hash_text(uint64_t hash, char out[HASH_BYTES])
{
    (void)snprintf(out, HASH_BYTES, "%016llx", (unsigned long long)hash);
}

/* "-" where there is no such file. */
static void hash_file(const char *path, char out[HASH_BYTES])
{
    void *data = NULL;
    size_t size = 0;

    (void)snprintf(out, HASH_BYTES, "-");
    if (cli_read_file(path, MAX_FILE, &data, &size))
        return;
    hash_text(hash_bytes(HASH_START, data, size), out);
    free(data);
}

int compare_stage_data(struct compare *c, char *why, size_t why_size)
{
    struct dataset_folder folder;
    uint64_t hash = HASH_START;
    int rc = dataset_files_scan(c->settings.data, &folder, why, why_size);

    if (rc)
        return rc;
    const size_t root = strlen(c->settings.data);
    for (size_t i = 0; i < folder.count; i++) {
        const char *path = folder.files[i].path;
        struct stat status = {0};
        long long facts[2];
        if (stat(path, &status) < 0)
            status.st_size = -1;
        facts[0] = status.st_size;
        facts[1] = status.st_mtim.tv_sec;
        hash = hash_bytes(hash, path + (strlen(path) > root ? root : 0), strlen(path + root) + 1);
        hash = hash_bytes(hash, facts, sizeof(facts));
    }
    hash_text(hash, c->data_hash);
    c->files = (uint32_t)folder.count;
    dataset_files_free(&folder);
    return 0;
}

void compare_stage_path(const struct compare *c, const struct compare_stage *s, const char *suffix,
                        char path[COMPARE_PATH_BYTES])
{
    (void)snprintf(path, COMPARE_PATH_BYTES, "%s/%s.%s", c->work, s->name, suffix);
}

void compare_model_path(const struct compare *c, const struct compare_model *m,
                        char path[COMPARE_PATH_BYTES])
{
    if (m->maker < 0)
        (void)snprintf(path, COMPARE_PATH_BYTES, "%s", c->settings.base);
    else
        compare_stage_path(c, &c->stages[m->maker], "nilm", path);
}

/* --- Arguments as texts --- */

/* Writes an argument with the folders named, so that the same run elsewhere reads the same. */
static void put_argument(const struct compare *c, FILE *to, const char *argument)
{
    const size_t out = strlen(c->settings.out);
    const char *variable = NULL, *rest = "";

    if (!strcmp(argument, c->settings.data)) {
        variable = "$DATA";
    } else if (c->settings.base && !strcmp(argument, c->settings.base)) {
        variable = "$BASE";
    } else if (!strncmp(argument, c->settings.out, out) && argument[out] == '/') {
        variable = "$OUT";
        rest = argument + out;
    }
    if (variable) {
        fprintf(to, "\"%s%s\"", variable, rest);
    } else if (*argument && strspn(argument, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                             "0123456789-_.,:/=+") == strlen(argument)) {
        fputs(argument, to);
    } else {
        fputc('\'', to);
        for (const char *p = argument; *p; p++)
            *p == '\'' ? fputs("'\\''", to) : fputc(*p, to);
        fputc('\'', to);
    }
}

char *compare_stage_command(const struct compare *c, const struct compare_stage *s)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    fputs("nilm-model", to);
    for (int i = 0; i < s->argc; i++) {
        fputc(' ', to);
        put_argument(c, to, s->argv[i]);
    }
    if (fclose(to)) {
        free(text);
        return NULL;
    }
    return text;
}

/* The contents of every file that an argument names; it may be a list with commas. */
static void put_files(FILE *to, const char *argument)
{
    for (const char *end; *argument; argument = *end ? end + 1 : end) {
        char path[COMPARE_PATH_BYTES], hash[HASH_BYTES];
        struct stat status;
        end = argument + strcspn(argument, ",");
        (void)snprintf(path, sizeof(path), "%.*s", (int)(end - argument), argument);
        if (stat(path, &status) < 0 || !S_ISREG(status.st_mode))
            continue;
        hash_file(path, hash);
        fprintf(to, " file:%s", hash);
    }
}

/* All that decides the stage's result: program, command, data, and the contents of what it reads.
 * Threads decide nothing. */
static char *stage_key(const struct compare *c, const struct compare_stage *s)
{
    char *text = NULL, *command = compare_stage_command(c, s), output[COMPARE_PATH_BYTES];
    size_t size;
    FILE *to = command ? open_memstream(&text, &size) : NULL;

    if (!to) {
        free(command);
        return NULL;
    }
    compare_stage_path(c, s, "nilm", output);
    fprintf(to, "%s %s", NILM_VERSION, command);
    free(command);
    for (int i = 1; i < s->argc; i++) {
        if (!strcmp(s->argv[i], c->settings.data))
            fprintf(to, " data:%s", c->data_hash);
        else if (strcmp(s->argv[i], output) != 0)
            put_files(to, s->argv[i]);
    }
    if (fclose(to)) {
        free(text);
        return NULL;
    }
    return text;
}

/* --- Records --- */

static cJSON *read_json(const char *path)
{
    void *data = NULL;
    size_t size = 0;
    cJSON *o;

    if (cli_read_file(path, MAX_FILE, &data, &size))
        return NULL;
    o = cJSON_ParseWithLength(data, size);
    free(data);
    if (!cJSON_IsObject(o)) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

cJSON *compare_stage_report(const struct compare *c, const struct compare_stage *s)
{
    char path[COMPARE_PATH_BYTES];

    compare_stage_path(c, s, "json", path);
    return read_json(path);
}

/* Hashes of what the stage left. */
static void stage_outputs(const struct compare *c, const struct compare_stage *s, char report[],
                          char model[])
{
    char path[COMPARE_PATH_BYTES];

    compare_stage_path(c, s, "json", path);
    hash_file(path, report);
    compare_stage_path(c, s, "nilm", path);
    hash_file(s->makes_model ? path : "", model);
}

static int same(const cJSON *o, const char *key, const char *text)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);

    return cJSON_IsString(item) && !strcmp(item->valuestring, text);
}

int compare_stage_check(struct compare *c, struct compare_stage *s)
{
    char path[COMPARE_PATH_BYTES], report[HASH_BYTES], model[HASH_BYTES];
    cJSON *record;
    char *key;
    int holds = 0;

    compare_stage_path(c, s, "done", path);
    record = read_json(path);
    if (!record)
        return 0;
    key = stage_key(c, s);
    if (!key) {
        cJSON_Delete(record);
        return -ENOMEM;
    }
    stage_outputs(c, s, report, model);
    const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(record, "seconds");
    holds = same(record, "key", key) && same(record, "report", report) &&
            same(record, "model", model) && strcmp(report, "-") != 0 && cJSON_IsNumber(seconds);
    if (holds) {
        s->done = 1;
        s->seconds = seconds->valuedouble;
    }
    free(key);
    cJSON_Delete(record);
    return holds;
}

static int write_record(const struct compare *c, const struct compare_stage *s, const char *key)
{
    char path[COMPARE_PATH_BYTES], report[HASH_BYTES], model[HASH_BYTES];
    cJSON *o = cJSON_CreateObject();
    char *text;
    int rc;

    stage_outputs(c, s, report, model);
    cJSON_AddStringToObject(o, "key", key);
    cJSON_AddStringToObject(o, "report", report);
    cJSON_AddStringToObject(o, "model", model);
    cJSON_AddNumberToObject(o, "seconds", s->seconds);
    text = o ? cJSON_Print(o) : NULL;
    cJSON_Delete(o);
    compare_stage_path(c, s, "done", path);
    rc = text ? cli_write_file(path, text, strlen(text)) : -ENOMEM;
    free(text);
    return rc;
}

/* --- Running --- */

static double now_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int redirect(const char *path, int to)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0)
        return -errno;
    int rc = dup2(fd, to) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

/* The child: dies with its parent, so that nobody writes into a folder that a new run works in. */
static void run_child(const struct compare *c, const struct compare_stage *s, pid_t parent)
{
    char path[COMPARE_PATH_BYTES];
    int code;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CLI_RETRY);
    close(c->lock); /* or it would outlive the parent for a moment */
    compare_stage_path(c, s, "log", path);
    code = redirect(path, STDERR_FILENO);
    compare_stage_path(c, s, "json.part", path);
    if (!code)
        code = redirect(path, STDOUT_FILENO);
    code = code ? cli_code(code) : s->run(s->argc, (char **)s->argv);
    if (fflush(stdout) && code == CLI_DONE)
        code = cli_fail(CLI_RETRY, "%s: %s", path, strerror(errno));
    fflush(stderr);
    _exit(code);
}

/* Waits for the child and shows how far the whole is: within a stage by its estimated time. */
static int wait_child(struct compare *c, const struct compare_stage *s, pid_t child, int *status)
{
    const double begin = now_seconds();
    const double speed = c->planned > 30.0 ? c->spent / c->planned : 1.0;
    long pause_us = 2000;

    for (;;) {
        pid_t ended = waitpid(child, status, WNOHANG);
        if (ended < 0 && errno != EINTR)
            return -errno;
        if (ended == child)
            return 0;
        if (!c->settings.quiet) {
            double share = (now_seconds() - begin) / (s->cost * speed + 0.1);
            share = share > 0.98 ? 0.98 : share;
            cli_progress_step(&c->progress, (uint64_t)((c->planned + share * s->cost) * 1000.0),
                              s->name);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = pause_us * 1000}, NULL);
        pause_us = pause_us < 200000 ? pause_us * 3 / 2 : pause_us;
    }
}

/* The last line of the stage's log, which says why it failed. */
static void last_line(const struct compare *c, const struct compare_stage *s, char *out,
                      size_t size)
{
    char path[COMPARE_PATH_BYTES];
    void *data = NULL;
    size_t n = 0;

    compare_stage_path(c, s, "log", path);
    (void)snprintf(out, size, "it left no message in %s", path);
    if (cli_read_file(path, MAX_FILE, &data, &n))
        return;
    const char *text = data;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    size_t first = n;
    while (first > 0 && text[first - 1] != '\n')
        first--;
    if (n > first)
        (void)snprintf(out, size, "%.*s", (int)(n - first), text + first);
    free(data);
}

static int failed(const struct compare *c, const struct compare_stage *s, int status)
{
    char why[512];

    if (WIFSIGNALED(status))
        return cli_fail(CLI_RETRY, "compare: stage %s ended by signal %d", s->name,
                        WTERMSIG(status));
    last_line(c, s, why, sizeof(why));
    (void)cli_fail(CLI_FAILED, "compare: stage %s failed: %s", s->name, why);
    return WEXITSTATUS(status) == CLI_RETRY ? CLI_RETRY : CLI_FAILED;
}

/* The child's report becomes NAME.json, then NAME.done says that it counts. */
static int finish(const struct compare *c, const struct compare_stage *s, const char *key)
{
    char part[COMPARE_PATH_BYTES], report[COMPARE_PATH_BYTES];
    cJSON *o;

    compare_stage_path(c, s, "json.part", part);
    compare_stage_path(c, s, "json", report);
    o = read_json(part);
    if (!o)
        return cli_fail(CLI_FAILED, "compare: stage %s: expected one JSON object in %s", s->name,
                        part);
    cJSON_Delete(o);
    if (rename(part, report) < 0)
        return cli_fail(CLI_FAILED, "compare: %s: %s", report, strerror(errno));
    int rc = write_record(c, s, key);
    return rc ? cli_fail(cli_code(rc), "compare: %s: %s", c->work, strerror(-rc)) : CLI_DONE;
}

static int run_stage(struct compare *c, struct compare_stage *s, const char *key)
{
    char path[COMPARE_PATH_BYTES];
    const double begin = now_seconds();
    const pid_t parent = getpid();
    int status = 0, rc;

    compare_stage_path(c, s, "done", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return cli_fail(CLI_FAILED, "compare: %s: %s", path, strerror(errno));
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child < 0)
        return cli_fail(CLI_RETRY, "compare: no process for stage %s: %s", s->name,
                        strerror(errno));
    if (child == 0)
        run_child(c, s, parent);
    rc = wait_child(c, s, child, &status);
    if (rc)
        return cli_fail(CLI_FAILED, "compare: stage %s: %s", s->name, strerror(-rc));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != CLI_DONE)
        return failed(c, s, status);
    s->seconds = now_seconds() - begin;
    s->done = 1;
    return finish(c, s, key);
}

int compare_stage_run(struct compare *c, struct compare_stage *s)
{
    const int done = compare_stage_check(c, s);
    int code = CLI_DONE;

    if (done < 0)
        return cli_fail(CLI_RETRY, "compare: out of memory");
    if (done) {
        c->progress.started -= s->seconds; /* what was done earlier counts as passed */
    } else {
        char *key = stage_key(c, s);
        if (!key)
            return cli_fail(CLI_RETRY, "compare: out of memory");
        code = run_stage(c, s, key);
        free(key);
    }
    c->spent += s->seconds;
    c->planned += s->cost;
    return code;
}
