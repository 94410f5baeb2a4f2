"""SPEC 8 in another language: a consumer that follows the numbered requirements and nothing else, with python3-paho-mqtt
and sqlite3. It proves that the recipe is complete; crash.py runs it beside the reference consumer and compares.

    recipe.py STORE HOST PORT CA CERT KEY CLIENT_ID      consumes until SIGTERM
    recipe.py --report STORE                              one JSON object
"""
import json
import signal
import sqlite3
import ssl
import sys
import time

BASE = "nilm/v1"
TABLES = """
create table if not exists received(device, epoch, first, last, primary key (device, epoch, first));
create table if not exists gap(device, epoch, seq, first, last, count, primary key (device, epoch, seq));
create table if not exists item(device, epoch, seq, payload, primary key (device, epoch, seq));
create table if not exists status(device primary key, epoch, next, rows);
create table if not exists count(name primary key, value);
insert or ignore into count values ('duplicates', 0), ('conflicts', 0), ('unusable', 0);
"""


def open_store(path):
    db = sqlite3.connect(path, isolation_level=None, timeout=20)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")  # 8.3: durable before the acknowledgement
    db.executescript(TABLES)
    return db


def add(db, name):
    db.execute("update count set value = value + 1 where name = ?", (name,))


def enter(db, device, epoch, seq):
    """8.5: numbers as ranges. False when the number is there already."""
    rows = db.execute("select first, last from received where device = ? and epoch = ? and first <= ? "
                      "order by first desc limit 2", (device, epoch, seq + 1)).fetchall()
    first = last = seq
    for a, b in rows:
        if a <= seq <= b:
            return False
        if a == seq + 1 or b == seq - 1:
            first, last = min(first, a), max(last, b)
            db.execute("delete from received where device = ? and epoch = ? and first = ?", (device, epoch, a))
    db.execute("insert into received values (?, ?, ?, ?)", (device, epoch, first, last))
    return True


def without_replay(text):
    payload = json.loads(text)
    payload.pop("replay", None)
    return payload


def take(db, topic, text):
    """One message, one transaction (8.4)."""
    levels = topic[len(BASE) + 1:].split("/")
    device, kind = levels[0], levels[1]
    try:
        payload = json.loads(text)
        if kind == "status":  # 8.9
            if "outbox" in payload:
                db.execute("insert or replace into status values (?, ?, ?, ?)",
                           (device, payload["epoch"], payload["outbox"]["next_seq"], payload["outbox"]["rows"]))
            return
        epoch, seq = payload["epoch"], payload["seq"]
    except (ValueError, TypeError, KeyError):
        add(db, "unusable")  # 8.12: told, and acknowledged
        return
    if not enter(db, device, epoch, seq):
        add(db, "duplicates")
        kept = db.execute("select payload from item where device = ? and epoch = ? and seq = ?",
                          (device, epoch, seq)).fetchone()
        if kept and without_replay(kept[0]) != without_replay(text):
            add(db, "conflicts")
        return
    db.execute("insert into item values (?, ?, ?, ?)", (device, epoch, seq, text))
    if kind == "gap":
        db.execute("insert or ignore into gap values (?, ?, ?, ?, ?, ?)",
                   (device, epoch, seq, payload["from_seq"], payload["to_seq"], payload["count"]))


def consume(store, host, port, ca, cert, key, client_id):
    import paho.mqtt.client as mqtt
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    db = open_store(store)
    client = mqtt.Client(client_id, protocol=mqtt.MQTTv5)
    client.tls_set(ca, cert, key, tls_version=ssl.PROTOCOL_TLS_CLIENT)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))

    def on_connect(client, userdata, flags, reason, properties):
        for tail in ("event/+", "alert/+", "summary/+", "gap", "report", "status"):  # 8.1
            client.subscribe(f"{BASE}/+/{tail}", 1)

    def on_message(client, userdata, message):
        """python3-paho-mqtt sends the PUBACK when this returns (8.3); an exception leaves it out."""
        db.execute("begin immediate")
        take(db, message.topic, message.payload.decode())
        db.execute("commit")

    client.on_connect, client.on_message = on_connect, on_message
    expiry = Properties(PacketTypes.CONNECT)
    expiry.SessionExpiryInterval = 86400  # 8.1
    while not stopping:
        try:
            client.connect(host, port, 30, clean_start=False, properties=expiry)
            while not stopping and client.loop(0.2) == mqtt.MQTT_ERR_SUCCESS:
                pass
        except (OSError, ssl.SSLError):
            pass
        time.sleep(0.2)
    client.disconnect()
    client.loop(0.2)


def stretches(db, device):
    """8.6: [(set of numbers, [gaps])], one for each run of epochs whose numbers go on."""
    result, top = [], 0
    epochs = [row[0] for row in db.execute("select distinct epoch from received where device = ? order by epoch", (device,))]
    for epoch in epochs:
        ranges = db.execute("select first, last from received where device = ? and epoch = ? order by first",
                            (device, epoch)).fetchall()
        gaps = db.execute("select first, last, count from gap where device = ? and epoch = ?", (device, epoch)).fetchall()
        if not result or ranges[0][0] <= top:
            result.append((set(), []))
            top = 0
        for a, b in ranges:
            result[-1][0].update(range(a, b + 1))
        result[-1][1].extend(gaps)
        top = max(top, ranges[-1][1])
    return result


def judge(numbers, gaps):
    """8.6, 8.7: (missing, declared) of a stretch."""
    missing = set(range(min(numbers), max(numbers) + 1)) - numbers
    declared = 0
    for a, b, count in sorted(gaps, key=lambda g: g[1] - g[0] + 1 - g[2]):
        lost = sorted(n for n in missing if a <= n <= b)[:count]
        missing -= set(lost)
        declared += len(lost)
    return missing, declared


def report(store):
    db = open_store(store)
    devices = {}
    for (device,) in db.execute("select distinct device from received order by device").fetchall():
        missing = declared = received = 0
        for numbers, gaps in stretches(db, device):
            lost, said = judge(numbers, gaps)
            missing, declared, received, highest = missing + len(lost), declared + said, received + len(numbers), max(numbers)
        status = db.execute("select next, rows from status where device = ?", (device,)).fetchone()
        behind = max(0, status[0] - 1 - highest) if status and status[1] == 0 else 0  # 8.9
        devices[device] = {"received": received, "missing": missing, "declared_lost": declared, "behind": behind}
    return {"devices": devices, **dict(db.execute("select name, value from count").fetchall())}


if __name__ == "__main__":
    if sys.argv[1] == "--report":
        print(json.dumps(report(sys.argv[2])))
    else:
        consume(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:8])
