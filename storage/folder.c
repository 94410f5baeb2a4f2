/* folder.c - see folder.h. */
#include "storage/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_MAX 99

int folder_sync_parent(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);

    if (length >= sizeof folder)
        return -ENAMETOOLONG;
    memcpy(folder, path, length);
    folder[length] = '\0';
    if (slash == path)
        memcpy(folder, "/", 2);
    int fd = open(slash == NULL ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return rc;
}

int folder_aside_name(const char *path, const char *label, char *out, size_t out_size)
{
    char when[32];
    struct tm utc;
    time_t now = time(NULL);

    if (gmtime_r(&now, &utc) == NULL || strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc) == 0)
        memcpy(when, "unknown-time", sizeof "unknown-time");
    for (int i = 1; i <= ASIDE_MAX; i++) {
        char number[8] = "";
        struct stat st;
        if (i > 1)
            snprintf(number, sizeof number, "-%d", i);
        int n = snprintf(out, out_size, "%s.%s-%s%s", path, label, when, number);
        if (n < 0 || (size_t)n >= out_size)
            return -ENAMETOOLONG;
        if (lstat(out, &st) != 0)
            return errno == ENOENT ? 0 : -errno;
    }
    return -EEXIST;
}
