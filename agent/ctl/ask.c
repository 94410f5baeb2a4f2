/* ask.c - client of the control socket (ask.h). */
#include "agent/ctl/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/ctl/cli.h"

static int open_socket(const char *path, char *why, size_t why_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, why_size, "%s: the path is too long for a socket (at most %zu bytes)", path,
                 sizeof address.sun_path - 1);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int rc = -errno;
    snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    if (fd >= 0)
        close(fd);
    return rc;
}

static int send_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, text, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Reads up to the first newline (or the end) into a new NUL-terminated text. */
static int read_line(int fd, char **line)
{
    int64_t end = cli_mono_ms() + ASK_TIMEOUT_MS;
    size_t have = 0, room = 0;
    char *text = NULL;
    int rc = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = end - cli_mono_ms();
        int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        rc = ready < 0 ? -errno : ready == 0 ? -ETIMEDOUT : have >= ASK_MAX_BYTES ? -EMSGSIZE : 0;
        if (rc != 0)
            break;
        if (room - have < 4097) {
            room = room ? 2 * room : 8192;
            char *larger = realloc(text, room);
            rc = larger ? 0 : -ENOMEM;
            if (rc != 0)
                break;
            text = larger;
        }
        ssize_t n = recv(fd, text + have, room - have - 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = -errno;
        have += n > 0 ? (size_t)n : 0;
        text[have] = '\0';
        if (n <= 0 || memchr(text + have - n, '\n', (size_t)n))
            break;
    }
    if (rc != 0) {
        free(text);
        text = NULL;
    }
    *line = text;
    return rc;
}

static int take_result(const char *line, const char *path, cJSON **result, char *why,
                       size_t why_size)
{
    cJSON *reply = cJSON_Parse(line);
    const cJSON *ok = cJSON_GetObjectItemCaseSensitive(reply, "ok");
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(reply, "error");
    int rc = 0;
    if (!cJSON_IsBool(ok)) {
        snprintf(why, why_size,
                 "%s: what answered is no nilmd of this version (no \"ok\" in its reply)", path);
        rc = -EBADMSG;
    } else if (!cJSON_IsTrue(ok)) {
        snprintf(why, why_size, "%s",
                 cJSON_IsString(error) ? error->valuestring : "refused without a reason");
        cli_plain(why);
        rc = -EREMOTEIO;
    } else {
        *result = cJSON_DetachItemFromObjectCaseSensitive(reply, "result");
        if (!*result)
            *result = cJSON_CreateObject();
        rc = *result ? 0 : -ENOMEM;
    }
    cJSON_Delete(reply);
    return rc;
}

/* One line with its end, new; NULL: out of memory. In one piece: an agent that answers and hangs up
 * at its first bytes must not meet more of them. */
static char *make_request(const char *command, const cJSON *members)
{
    char id[48];
    cJSON *o = cJSON_CreateObject();
    snprintf(id, sizeof id, "nilmctl-%ld", (long)getpid());
    int ok = cJSON_AddStringToObject(o, "id", id) && cJSON_AddStringToObject(o, "command", command);
    for (const cJSON *m = members ? members->child : NULL; m && ok; m = m->next)
        ok = cJSON_AddStringToObject(o, m->string, m->valuestring) != NULL;
    char *text = ok ? cJSON_PrintUnformatted(o) : NULL, *line = NULL;
    cJSON_Delete(o);
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    return line;
}

int ask_agent_with(const char *path, const char *command, const cJSON *members, cJSON **result,
                   char *why, size_t why_size)
{
    char *line = NULL, *request = make_request(command, members);
    *result = NULL;
    if (!request) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    int fd = open_socket(path, why, why_size), rc = fd;
    if (fd >= 0) {
        rc = send_all(fd, request, strlen(request));
        if (rc == 0)
            rc = read_line(fd, &line);
        if (rc != 0)
            snprintf(why, why_size, "%s: %s", path,
                     rc == -ETIMEDOUT ? "the agent does not answer" : strerror(-rc));
        else
            rc = take_result(line, path, result, why, why_size);
        close(fd);
    }
    free(line);
    free(request);
    return rc;
}

int ask_agent(const char *path, const char *command, cJSON **result, char *why, size_t why_size)
{
    return ask_agent_with(path, command, NULL, result, why, why_size);
}
