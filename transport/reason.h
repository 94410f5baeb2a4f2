/* reason.h - MQTT reason and return codes in words; internal to transport. */
#ifndef TRANSPORT_REASON_H
#define TRANSPORT_REASON_H

/* A CONNACK: an MQTT 5 reason code (0x80 and above) or a 3.1.1 return code (1 to 5), for the operator. */
const char *reason_connack(int code);
/* A PUBACK, SUBACK or DISCONNECT of MQTT 5. */
const char *reason_text(int code);
/* The CONNACK code says that the broker does not know this MQTT version. */
int reason_is_version(int code);

#endif
