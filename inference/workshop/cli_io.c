/* cli_io.c - see cli.h: errors, JSON, files, progress. */
#include "inference/workshop/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A message that comes while a bar is drawn must not be appended to it. */
static struct cli_progress *open_bar;

static void close_bar(void)
{
    if (open_bar == NULL)
        return;
    fputc('\n', stderr);
    open_bar->open = 0;
    open_bar = NULL;
}

int cli_fail(int code, const char *format, ...)
{
    va_list args;
    close_bar();
    fputs("nilm-model: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

int cli_code(int rc)
{
    switch (rc) {
    case 0:
        return CLI_DONE;
    case -ENOMEM:
    case -ENOSPC:
    case -EDQUOT:
    case -EAGAIN:
    case -EBUSY:
    case -EMFILE:
    case -ENFILE:
        return CLI_RETRY;
    default:
        return CLI_FAILED;
    }
}

int cli_print_json(cJSON *object)
{
    char *text = object ? cJSON_Print(object) : NULL;
    cJSON_Delete(object);
    if (text == NULL)
        return cli_fail(CLI_RETRY, "out of memory");
    int failed = puts(text) < 0;
    free(text);
    if (fflush(stdout) != 0 || failed)
        return cli_fail(CLI_FAILED, "standard output: %s", strerror(errno));
    return CLI_DONE;
}

/* --- files --- */

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (folder == NULL)
        return -ENOMEM;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc;
}

int cli_write_file(const char *path, const void *data, size_t size)
{
    size_t n = strlen(path) + sizeof ".XXXXXX";
    char *temporary = malloc(n);
    if (temporary == NULL)
        return -ENOMEM;
    snprintf(temporary, n, "%s.XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC), rc;
    if (fd < 0) {
        rc = -errno;
        free(temporary);
        return rc;
    }
    mode_t mask = umask(0);
    umask(mask);
    rc = fchmod(fd, 0666 & ~mask) < 0 ? -errno : write_all(fd, data, size);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(temporary);
    else
        rc = sync_folder_of(path);
    free(temporary);
    return rc;
}

int cli_read_file(const char *path, size_t limit, void **data, size_t *size)
{
    size_t have = 0, room = 0;
    char *buffer = NULL;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        if (have == room) { /* one byte beyond the limit tells that there is more */
            room = room == 0 ? 65536 : 2 * room;
            room = room > limit + 1 ? limit + 1 : room;
            char *larger = realloc(buffer, room);
            rc = larger ? 0 : -ENOMEM;
            if (rc < 0)
                break;
            buffer = larger;
        }
        ssize_t n = read(fd, buffer + have, room - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -errno : 0;
            break;
        }
        have += (size_t)n;
        if (have > limit) {
            rc = -EFBIG;
            break;
        }
    }
    close(fd);
    if (rc < 0) {
        free(buffer);
        return rc;
    }
    *data = buffer;
    *size = have;
    return 0;
}

/* --- progress --- */

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void format_duration(double seconds, char *out, size_t size)
{
    unsigned long s = seconds > 0 ? (unsigned long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%luh%02lum", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(out, size, "%lum%02lus", s / 60, s % 60);
    else
        snprintf(out, size, "%lus", s);
}

static void show(struct cli_progress *p, const char *note, int final)
{
    enum { BAR = 30 };
    char span[32], timing[48], bar[BAR + 1];
    double now = now_seconds(), passed = now - p->started;
    double share = p->total ? (double)p->done / (double)p->total : 1.0;
    share = share > 1.0 ? 1.0 : share;
    format_duration(final || share <= 0 ? passed : passed / share - passed, span, sizeof span);
    if (final)
        snprintf(timing, sizeof timing, "took %s", span);
    else
        snprintf(timing, sizeof timing, "%s %s", span, share > 0 ? "left" : "passed");
    p->shown = now;
    if (p->terminal) {
        int full = (int)(share * BAR);
        memset(bar, '#', (size_t)full);
        memset(bar + full, '.', (size_t)(BAR - full));
        bar[BAR] = '\0';
        fprintf(stderr, "\r\033[K%s [%s] %3.0f%% %s%s%s", p->what, bar, 100 * share, timing,
                note ? "  " : "", note ? note : "");
        p->open = 1;
        open_bar = p;
        if (final)
            close_bar();
    } else {
        fprintf(stderr, "%s: %llu of %llu (%.0f%%), %s%s%s\n", p->what, (unsigned long long)p->done,
                (unsigned long long)p->total, 100 * share, timing, note ? ", " : "",
                note ? note : "");
    }
    fflush(stderr);
}

void cli_progress_begin(struct cli_progress *p, const char *what, uint64_t total)
{
    *p = (struct cli_progress){.what = what, .total = total, .terminal = isatty(STDERR_FILENO)};
    p->started = p->shown = now_seconds();
    if (p->terminal)
        show(p, NULL, 0);
}

void cli_progress_step(struct cli_progress *p, uint64_t done, const char *note)
{
    p->done = done;
    if (now_seconds() - p->shown >= (p->terminal ? 0.1 : 10.0))
        show(p, note, 0);
}

void cli_progress_end(struct cli_progress *p, const char *note)
{
    p->done = p->total;
    show(p, note, 1);
}

void cli_progress_files(void *context, size_t done, size_t total)
{
    struct cli_progress *p = context;
    if (p->total == 0 || done < p->done)
        cli_progress_begin(p, p->what ? p->what : "loading traces", total);
    if (done >= total)
        cli_progress_end(p, NULL);
    else
        cli_progress_step(p, done, NULL);
}
