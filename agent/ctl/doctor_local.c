/* doctor_local.c - checks of this machine: clock, data folder, database, agent. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "agent/ctl/ask.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/doctor.h"
#include "storage/outbox.h"

#define MB (1024.0 * 1024.0)
#define FREE_MARGIN (16u << 20) /* beside the outbox: log of the database, models */
#define CLOCK_MAX 4102444800    /* 2100-01-01 */

void doctor_check_clock(struct doctor *d)
{
    struct timex t = {0};
    char stamp[CLI_STAMP];
    int64_t now = cli_now_ms();
    int state = adjtimex(&t); /* only reads */
    int synchronised = state >= 0 && state != TIME_ERROR && !(t.status & STA_UNSYNC);
    cli_stamp(now, stamp);
    if (now / 1000 < CLI_CLOCK_MIN)
        doctor_finding(
            d, "clock", DOCTOR_LATER,
            "set it (date -s, or a time service): certificates seem not valid yet until then",
            "it was never set: %s", stamp);
    else if (now / 1000 > CLOCK_MAX)
        doctor_finding(d, "clock", DOCTOR_FAULT, "set it (date -s, or a time service)",
                       "it is in a far future: %s", stamp);
    else
        doctor_finding(
            d, "clock", synchronised ? DOCTOR_OK : DOCTOR_NOTE,
            synchronised ? "" : "without a time service (systemd-timesyncd, chrony) it will drift",
            "%s%s", stamp,
            synchronised ? ", synchronised" : "; the kernel does not know it as synchronised");
}

/* Whether files can be written there: tried, not guessed from modes. */
static int try_write(const char *dir)
{
    char path[CLI_PATH];
    snprintf(path, sizeof path, "%s/.doctor.XXXXXX", dir);
    int fd = mkstemp(path);
    if (fd < 0)
        return -errno;
    int rc = write(fd, "x", 1) == 1 && fsync(fd) == 0 ? 0 : errno ? -errno : -EIO;
    close(fd);
    unlink(path);
    return rc;
}

void doctor_check_data(struct doctor *d)
{
    const struct config *c = d->config;
    struct statvfs v;
    int rc = try_write(c->data_dir);
    if (rc != 0) {
        const char *advice = rc == -ENOENT ? "make the folder, owned by the user that nilmd runs as"
                             : rc == -EACCES || rc == -EPERM
                                 ? "give it to the user that nilmd runs as; run doctor as that user"
                             : rc == -ENOSPC ? "free some space"
                             : rc == -EROFS  ? "mount it writable"
                                             : "look at the disk (dmesg)";
        doctor_finding(d, "data folder", DOCTOR_FAULT, advice, "%s: cannot be written: %s",
                       c->data_dir, strerror(-rc));
        return;
    }
    if (statvfs(c->data_dir, &v) != 0) {
        doctor_finding(d, "data folder", DOCTOR_FAULT, "look at the disk (dmesg)", "%s: %s",
                       c->data_dir, strerror(errno));
        return;
    }
    double free_bytes = (double)v.f_bavail * (double)v.f_frsize;
    double wanted = (double)c->outbox_bytes + FREE_MARGIN;
    if (free_bytes < FREE_MARGIN)
        doctor_finding(d, "data folder", DOCTOR_FAULT, "free some space",
                       "%s: only %.1f MB are free", c->data_dir, free_bytes / MB);
    else if (c->outbox_bytes > 0 && free_bytes < wanted)
        doctor_finding(d, "data folder", DOCTOR_WARNING,
                       "free some space, or lower [outbox] max_bytes",
                       "%s: %.0f MB are free, a full outbox needs %.0f MB", c->data_dir,
                       free_bytes / MB, wanted / MB);
    else
        doctor_finding(d, "data folder", DOCTOR_OK, "", "%s: writable, %.0f MB free", c->data_dir,
                       free_bytes / MB);
}

void doctor_check_store(struct doctor *d)
{
    struct store *store = NULL;
    struct outbox_stats stats;
    uint64_t bytes = 0;
    char path[CLI_PATH], why[CLI_WHY] = "", stamp[CLI_STAMP];
    cli_path(d->config, CLI_DATABASE, path);
    int rc = store_open_readonly(path, &store, why, sizeof why);
    if (rc == -ENOENT) {
        doctor_finding(d, "database", DOCTOR_NOTE, "",
                       "%s: none yet, nilmd makes it when it starts", path);
        return;
    }
    if (rc == 0 &&
        ((rc = outbox_statistics(store, &stats)) != 0 || (rc = store_size(store, &bytes)) != 0))
        snprintf(why, sizeof why, "%s: %s", path, store_error(store));
    store_close(store);
    if (rc != 0)
        doctor_finding(d, "database", DOCTOR_FAULT,
                       rc == -EBADMSG
                           ? "restart nilmd: it sets the file aside, makes a new one and reports it"
                       : rc == -EPROTO ? "a newer nilmd made it: install that version again"
                       : rc == -EACCES ? "run doctor as the user that nilmd runs as"
                                       : "look at the disk (dmesg)",
                       "%s", why);
    else if (stats.parked > 0)
        doctor_finding(
            d, "database", DOCTOR_WARNING,
            "the broker refuses these topics for good: check its access control (nilmctl outbox)",
            "%s: %llu items were refused by the broker", path, (unsigned long long)stats.parked);
    else
        doctor_finding(d, "database", DOCTOR_OK, "", "%s: %.1f MB; %llu items wait%s%s", path,
                       (double)bytes / MB, (unsigned long long)stats.rows,
                       stats.rows ? ", the oldest since " : "",
                       stats.rows ? cli_stamp(stats.oldest_ms, stamp) : "");
}

void doctor_check_agent(struct doctor *d)
{
    char path[CLI_PATH], why[CLI_WHY] = "";
    cJSON *status = NULL;
    cli_path(d->config, CLI_SOCKET, path);
    int rc = ask_agent(path, "status", &status, why, sizeof why);
    if (rc == 0) {
        const cJSON *state = cJSON_GetObjectItemCaseSensitive(status, "state");
        doctor_finding(d, "agent", DOCTOR_OK, "", "running, %s",
                       cJSON_IsString(state) ? state->valuestring : "state unknown");
    } else if (rc == -ENOENT || rc == -ECONNREFUSED) {
        doctor_finding(d, "agent", DOCTOR_NOTE, "start it: systemctl start nilmd", "not running");
    } else if (rc == -EACCES) {
        doctor_finding(d, "agent", DOCTOR_NOTE, "run doctor as the user that nilmd runs as", "%s",
                       why);
    } else {
        doctor_finding(d, "agent", DOCTOR_FAULT, "look at its log, restart it", "%s", why);
    }
    cJSON_Delete(status);
}
