#include "agent/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int broker_password(const struct config *c, char *password, size_t size, char *why, size_t why_size)
{
    password[0] = '\0';
    if (!c->password_file[0])
        return 0;
    int fd =
        open(c->password_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hang us */
    const ssize_t n = fd < 0 ? -1 : read(fd, password, size - 1);
    const int rc = n < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    password[n > 0 ? n : 0] = '\0';
    password[strcspn(password, "\r\n")] = '\0';
    if (rc == 0 && password[0])
        return 0;
    snprintf(why, why_size, "%s: %s", c->password_file,
             rc < 0 ? strerror(-rc) : "expected a password on the first line");
    return rc < 0 ? rc : -ENOENT;
}

static const char *given(const char *text)
{
    return text[0] ? text : NULL;
}

int broker_count(const struct config *c)
{
    int n = c->broker_host[0] != '\0';
    while (n > 0 && n < CONFIG_BROKERS && c->more_brokers[n - 1].host[0])
        n++;
    return n;
}

struct link_broker broker_at(const struct config *c, int i)
{
    if (i == 0)
        return (struct link_broker){c->broker_host, c->broker_port};
    return (struct link_broker){c->more_brokers[i - 1].host, c->more_brokers[i - 1].port};
}

void broker_settings(const struct config *c, const char *password, struct link_config *out)
{
    *out = (struct link_config){.host = c->broker_host,
                                .port = c->broker_port,
                                .ca_path = given(c->ca),
                                .cert_path = given(c->cert),
                                .key_path = given(c->key),
                                .server_name = given(c->server_name),
                                .username = given(c->username),
                                .password = given(password),
                                .keepalive_s = c->keepalive_s,
                                .protocol = c->protocol};
    for (int i = 1; i < broker_count(c); i++)
        out->more[i - 1] = broker_at(c, i);
}

void broker_copy(struct config *to, const struct config *from)
{
    memcpy(to->broker_host, from->broker_host, sizeof to->broker_host);
    to->broker_port = from->broker_port;
    memcpy(to->more_brokers, from->more_brokers, sizeof to->more_brokers);
    memcpy(to->server_name, from->server_name, sizeof to->server_name);
    memcpy(to->ca, from->ca, sizeof to->ca);
    memcpy(to->cert, from->cert, sizeof to->cert);
    memcpy(to->key, from->key, sizeof to->key);
    memcpy(to->username, from->username, sizeof to->username);
    memcpy(to->password_file, from->password_file, sizeof to->password_file);
    to->protocol = from->protocol;
    to->keepalive_s = from->keepalive_s;
    to->fail_back_ms = from->fail_back_ms;
    to->expiry_warning_ms = from->expiry_warning_ms;
}
