#!/usr/bin/python3
"""A TLS server that behaves as brokers should not: fake_broker.py FOLDER BEHAVIOUR; prints its port.

no5       refuses MQTT 5 as a broker of before MQTT 5 does (CONNACK code 1), serves 3.1.1
hangup5   closes the connection when it sees MQTT 5, serves 3.1.1
old-tls   knows TLS 1.1 at most
mute      does TLS and never answers
large     accepts, then sends a PUBLISH larger than the client's limit, then a small one, and prints the PUBACKs
garbage   accepts, then sends bytes that are not MQTT
window    MQTT 5 with Receive Maximum 3; acknowledges only when three messages are unacknowledged; a fourth ends it
quota     answers the first message with PUBACK "quota exceeded", the others as usual
malformed calls the first message malformed, and every message that is sent again; acknowledges the others
bye       accepts, then says DISCONNECT "taken over" (MQTT 5) and leaves the connection open
announce  accepts, then announces a packet of 200 MB that is no PUBLISH
"""
import socket
import ssl
import struct
import sys
import time
import warnings


def read_exactly(conn, count):
    data = b""
    while len(data) < count:
        part = conn.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_packet(conn):
    head = read_exactly(conn, 1)[0]
    length, shift = 0, 0
    while True:
        byte = read_exactly(conn, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return head, read_exactly(conn, length)


def length_of(count):
    out = b""
    while True:
        out += bytes([count % 128 | (128 if count > 127 else 0)])
        count //= 128
        if not count:
            return out


def publish(topic, payload, packet, mqtt5):
    body = struct.pack(">H", len(topic)) + topic + struct.pack(">H", packet) + (b"\0" if mqtt5 else b"") + payload
    return b"\x32" + length_of(len(body)) + body


called_malformed = []


def serve(conn, behaviour):
    head, body = read_packet(conn)
    assert head == 0x10, head
    version = body[6]
    if behaviour == "no5" and version == 5:
        conn.sendall(b"\x20\x02\x00\x01")
        return
    if behaviour == "hangup5" and version == 5:
        return
    if behaviour == "mute":
        time.sleep(600)
    properties = b"\x21\x00\x03" if behaviour == "window" else b""
    conn.sendall(b"\x20" + (bytes([3 + len(properties), len(called_malformed) > 0, 0, len(properties)]) + properties if version == 5 else b"\x02\0\0"))
    if behaviour == "garbage":
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"\xff" * 64)
    if behaviour == "announce":
        conn.sendall(b"\x90\xff\xff\xff\x5f")
    if behaviour == "bye":
        conn.sendall(b"\xe0\x01\x8e")
    if behaviour == "large":
        conn.sendall(publish(b"big", b"x" * 3_000_000, 7, version == 5))
        conn.sendall(publish(b"small", b"hello", 8, version == 5))
    waiting, refused = [], False
    while True:
        head, body = read_packet(conn)
        if head >> 4 == 12:
            conn.sendall(b"\xd0\0")
        elif head >> 4 == 8:
            conn.sendall(b"\x90" + (b"\x04" + body[:2] + b"\0" if version == 5 else b"\x03" + body[:2]) + b"\x01")
        elif head >> 4 == 4:
            print("puback", struct.unpack(">H", body[:2])[0], flush=True)
        elif head >> 4 == 3:
            n = struct.unpack(">H", body[:2])[0]
            waiting.append(body[2 + n:4 + n])
            if behaviour == "malformed" and (not called_malformed or head & 8):
                called_malformed.append(body)
                conn.sendall(b"\xe0\x01\x81")
                return
            if behaviour == "window":
                if len(waiting) < 3:
                    continue
                conn.settimeout(0.3)  # a client that keeps to three sends no fourth
                try:
                    conn.recv(1)
                    conn.sendall(b"\xe0\x02\x93\x00")
                    return
                except (TimeoutError, ssl.SSLError):
                    conn.settimeout(None)
            for packet in waiting:
                refuse = behaviour == "quota" and not refused
                conn.sendall(b"\x40\x03" + packet + b"\x97" if refuse else b"\x40\x02" + packet)
                refused = refused or refuse
            waiting = []
        elif head >> 4 == 14:
            return


def main():
    folder, behaviour = sys.argv[1], sys.argv[2]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + "/pki/server.crt", folder + "/pki/server.key")
    if behaviour == "old-tls":
        warnings.simplefilter("ignore", DeprecationWarning)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        plain, _ = listener.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as conn:
                serve(conn, behaviour)
        except (EOFError, OSError):
            pass


main()
