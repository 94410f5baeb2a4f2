/* folder.c - see folder.h. */
#include "storage/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_TIME 16 /* bytes of YYYYMMDDTHHMMSSZ */
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

static int write_all(int fd, const char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, data + done, size - done);
        if (n < 0 && errno != EINTR)
            return errno == EFBIG || errno == EDQUOT ? -ENOSPC : -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return fsync(fd) != 0 ? -errno : 0;
}

int folder_replace(const char *temporary, const char *path, const void *data, size_t size)
{
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    int rc = fd < 0 ? -errno : write_all(fd, data, size);

    if (fd >= 0 && close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(temporary, path) != 0)
        rc = -errno;
    if (rc == 0)
        rc = folder_sync_parent(path);
    if (rc < 0)
        unlink(temporary);
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

/* Where the time stands in a name that was set aside; NULL: it is none. */
static const char *aside_time(const char *name, const char *begin)
{
    const size_t n = strlen(begin);
    return strncmp(name, begin, n) == 0 && strlen(name + n) >= ASIDE_TIME ? name + n : NULL;
}

/* Keeps the newest times in kept, newest first; "": no more. */
static void keep_newest(char kept[][ASIDE_TIME + 1], const char *time)
{
    char next[ASIDE_TIME + 1], last[ASIDE_TIME + 1];

    memcpy(next, time, ASIDE_TIME);
    next[ASIDE_TIME] = '\0';
    for (size_t i = 0; i < FOLDER_ASIDE_KEPT && strcmp(next, kept[i]) != 0; i++) {
        if (strcmp(next, kept[i]) < 0)
            continue;
        memcpy(last, kept[i], sizeof last);
        memcpy(kept[i], next, sizeof last);
        memcpy(next, last, sizeof last);
        if (!next[0])
            break;
    }
}

void folder_aside_trim(const char *path, const char *label)
{
    char begin[NAME_MAX + 1], folder[PATH_MAX], kept[FOLDER_ASIDE_KEPT][ASIDE_TIME + 1] = {""};
    const char *slash = strrchr(path, '/'), *time;
    const int length = slash ? (int)(slash - path) : 0;
    const struct dirent *entry;

    if (snprintf(begin, sizeof begin, "%s.%s-", slash ? slash + 1 : path, label) >=
            (int)sizeof begin ||
        snprintf(folder, sizeof folder, "%.*s/", slash ? length : 1, slash ? path : ".") >=
            (int)sizeof folder)
        return;
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL)
        if ((time = aside_time(entry->d_name, begin)) != NULL)
            keep_newest(kept, time);
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL)
        if ((time = aside_time(entry->d_name, begin)) != NULL &&
            strncmp(time, kept[FOLDER_ASIDE_KEPT - 1], ASIDE_TIME) < 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}
