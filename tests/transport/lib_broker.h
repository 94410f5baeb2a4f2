/* lib_broker.h - a real Mosquitto on loopback with a test PKI, in a temporary folder. */
#ifndef TESTS_TRANSPORT_LIB_BROKER_H
#define TESTS_TRANSPORT_LIB_BROKER_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct broker {
    char dir[64];        /* mkdtemp; dir/pki holds what tests/lib/pki.sh makes */
    pid_t pid;           /* 0: not running */
    uint16_t port;       /* TLS, client certificates required */
    uint16_t plain_port; /* MQTT without TLS */
    pid_t fake;          /* fake_broker.py */
    FILE *fake_says;     /* what it prints after its port */
};

/* Folder and PKI only. 0, or -1 with a message on stderr. */
int broker_prepare(struct broker *b);
/* Writes the configuration with server certificate SERVER.crt ("server") and extra lines ("" for
 * none), starts the broker and waits until it listens. The same port after a restart. */
int broker_start(struct broker *b, const char *server, const char *extra);
void broker_kill(struct broker *b, int signal); /* and reaps it */
void broker_remove(struct broker *b);           /* kills it and removes the folder */
/* Path of a file of the PKI, in one of a few static buffers. */
const char *broker_file(const struct broker *b, const char *name);
/* Starts fake_broker.py, and stops the one before (BEHAVIOUR NULL: no more than that). Its port, or
 * 0. */
uint16_t broker_fake(struct broker *b, const char *behaviour);
/* A TCP socket that listens on an ephemeral port of loopback and never answers. */
int broker_silent(uint16_t *port);
uint16_t broker_free_port(void);

#endif
