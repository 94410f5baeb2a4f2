/* lib_broker.c - starting and stopping Mosquitto for tests. */
#include "transport/lib_broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t spawn(char *const argv[], int out, int err)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    if (out >= 0)
        dup2(out, 1);
    if (err >= 0)
        dup2(err, 2);
    execvp(argv[0], argv);
    _exit(127);
}

static int run(char *const argv[])
{
    int status;
    pid_t pid = spawn(argv, -1, -1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

int broker_prepare(struct broker *b)
{
    char pki[96];
    memset(b, 0, sizeof *b);
    snprintf(b->dir, sizeof b->dir, "/tmp/nilm-broker-XXXXXX");
    if (!mkdtemp(b->dir))
        return -1;
    snprintf(pki, sizeof pki, "%s/pki", b->dir);
    char *const argv[] = {"tests/lib/pki.sh", pki, NULL};
    return run(argv);
}

const char *broker_file(const struct broker *b, const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/pki/%s", b->dir, name);
    return path;
}

static int listen_on(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &size) != 0)
        return -1;
    *port = ntohs(a.sin_port);
    return fd;
}

int broker_silent(uint16_t *port)
{
    return listen_on(port);
}

uint16_t broker_free_port(void)
{
    uint16_t port = 0;
    int fd = listen_on(&port);
    if (fd >= 0)
        close(fd);
    return port;
}

static int listens(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return ok;
}

static int write_config(const struct broker *b, const char *server, const char *extra)
{
    char path[128];
    snprintf(path, sizeof path, "%s/broker.conf", b->dir);
    FILE *f = fopen(path, "w");
    if (!f)
        return -1;
    fprintf(f,
            "%sper_listener_settings false\nlog_dest stderr\nlog_type all\nallow_anonymous true\n"
            "persistence false\nretry_interval 1\n%s\n"
            "listener %u 127.0.0.1\ncafile %s/pki/ca.crt\ncertfile %s/pki/%s.crt\n"
            "keyfile %s/pki/server.key\nrequire_certificate true\nuse_identity_as_username true\n"
            "listener %u 127.0.0.1\n",
            geteuid() == 0 ? "user root\n" : "", extra, b->port, b->dir, b->dir, server, b->dir,
            b->plain_port);
    return fclose(f);
}

int broker_start(struct broker *b, const char *server, const char *extra)
{
    char config[128], log[128];
    for (int attempt = 0; attempt < 5; attempt++) {
        if (!b->port) {
            b->port = broker_free_port();
            b->plain_port = broker_free_port();
        }
        if (write_config(b, server, extra) != 0)
            return -1;
        snprintf(config, sizeof config, "%s/broker.conf", b->dir);
        snprintf(log, sizeof log, "%s/broker.log", b->dir);
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        char *const argv[] = {"/usr/sbin/mosquitto", "-c", config, NULL};
        b->pid = spawn(argv, fd, fd);
        close(fd);
        for (int i = 0; i < 500 && waitpid(b->pid, NULL, WNOHANG) == 0; i++) {
            if (listens(b->port) && listens(b->plain_port))
                return 0;
            poll(NULL, 0, 20);
        }
        b->pid = 0; /* somebody else took the port? */
        b->port = 0;
    }
    fprintf(stderr, "mosquitto does not start: see %s\n", log);
    return -1;
}

void broker_kill(struct broker *b, int signal)
{
    if (b->pid <= 0)
        return;
    kill(b->pid, signal);
    waitpid(b->pid, NULL, 0);
    b->pid = 0;
}

void broker_remove(struct broker *b)
{
    broker_fake(b, NULL);
    broker_kill(b, SIGKILL);
    char *const argv[] = {"rm", "-rf", "--", b->dir, NULL};
    if (b->dir[0])
        run(argv);
}

uint16_t broker_fake(struct broker *b, const char *behaviour)
{
    int out[2];
    char line[32] = "";
    if (b->fake > 0) {
        kill(b->fake, SIGKILL);
        waitpid(b->fake, NULL, 0);
        fclose(b->fake_says);
        b->fake = 0;
    }
    if (!behaviour || pipe2(out, O_CLOEXEC) != 0)
        return 0;
    char *const argv[] = {"/usr/bin/python3", "tests/transport/fake_broker.py", b->dir,
                          (char *)behaviour, NULL};
    b->fake = spawn(argv, out[1], -1);
    close(out[1]);
    b->fake_says = fdopen(out[0], "r");
    if (!b->fake_says || !fgets(line, sizeof line, b->fake_says))
        return 0;
    return (uint16_t)atoi(line);
}
