/* bare.c - what Paho alone reaches: events of the same size to the same topics with QoS 1 and MQTT
 * 5, always a window full in flight, nothing stored. Paho's own TLS (libpaho-mqtt3as, OpenSSL) with
 * the same certificates; without CA: plain TCP.
 *
 *     fault_bare PORT COUNT WINDOW CLIENT_ID [CA CERT KEY]     prints the messages per second */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <MQTTAsync.h>

static sem_t window, up;
static int failed;

static void on_up(void *context, MQTTAsync_successData5 *data)
{
    (void)context;
    (void)data;
    sem_post(&up);
}

static void on_failure(void *context, MQTTAsync_failureData5 *data)
{
    fprintf(stderr, "fault_bare: %s failed: %d %s\n", (const char *)context, data->code,
            data->message ? data->message : "");
    failed = 1;
    sem_post(&up);
    sem_post(&window);
}

static void on_sent(void *context, MQTTAsync_successData5 *data)
{
    (void)context;
    (void)data;
    sem_post(&window);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int payload(char *out, size_t size, const char *device, long number)
{
    return snprintf(
        out, size,
        "{\"id\":\"1763850000-%ld\",\"device\":\"%s\",\"epoch\":1763850000,\"seq\":%ld,"
        "\"replay\":true,\"type\":\"off\",\"meter\":\"m%02ld\",\"appliance\":\"WaterKettle\","
        "\"confidence\":0.9731,\"time\":%lld,\"time_quality\":\"clock\",\"model\":1,"
        "\"run\":%ld,\"power\":1843.2,\"start\":%lld,\"end\":%lld,\"duration\":172.004,"
        "\"energy\":88.123,\"peak\":1911.5,\"end_reason\":\"off\"}",
        number, device, number, number % 12, 1714550400000LL + number * 864, number,
        1714550227996LL + number * 864, 1714550400000LL + number * 864);
}

static int send_all(MQTTAsync client, const char *device, long count)
{
    for (long i = 0; i < count && !failed; i++) {
        char text[512], topic[128];
        MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
        MQTTAsync_message m = MQTTAsync_message_initializer;
        o.onSuccess5 = on_sent;
        o.onFailure5 = on_failure;
        o.context = (char *)"a publish";
        m.payloadlen = payload(text, sizeof text, device, i);
        m.payload = text;
        m.qos = 1;
        snprintf(topic, sizeof topic, "nilm/v1/%s/event/m%02ld", device, i % 12);
        sem_wait(&window);
        if (MQTTAsync_sendMessage(client, topic, &m, &o) != MQTTASYNC_SUCCESS)
            return -1;
    }
    return failed ? -1 : 0;
}

int main(int argc, char **argv)
{
    char uri[64];
    MQTTAsync client;
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
    MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
    if (argc != 5 && argc != 8) {
        fprintf(stderr, "usage: fault_bare PORT COUNT WINDOW CLIENT_ID [CA CERT KEY]\n");
        return 1;
    }
    const long count = atol(argv[2]);
    const int room = atoi(argv[3]);
    sem_init(&window, 0, (unsigned)room);
    sem_init(&up, 0, 0);
    snprintf(uri, sizeof uri, "%s://127.0.0.1:%d", argc == 8 ? "ssl" : "tcp", atoi(argv[1]));
    create.maxBufferedMessages = room + 16;
    if (MQTTAsync_createWithOptions(&client, uri, argv[4], MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                    &create) != 0)
        return 2;
    connect.onSuccess5 = on_up;
    connect.onFailure5 = on_failure;
    connect.context = (char *)"the connect";
    connect.maxInflight = room + 16;
    connect.cleanstart = 1;
    if (argc == 8) {
        ssl.trustStore = argv[5];
        ssl.keyStore = argv[6];
        ssl.privateKey = argv[7];
        connect.ssl = &ssl;
    }
    if (MQTTAsync_connect(client, &connect) != MQTTASYNC_SUCCESS)
        return 2;
    sem_wait(&up);
    const double began = now();
    int rc = failed ? -1 : send_all(client, argv[4], count);
    for (int i = 0; i < room && rc == 0; i++)
        sem_wait(&window);
    if (rc == 0 && !failed)
        printf("%.0f\n", (double)count / (now() - began));
    MQTTAsync_destroy(&client);
    return rc == 0 && !failed ? 0 : 2;
}
