"""A load that no model knows: unknown, then unknown-1, then by the name that a person gave it in a signed command over MQTT, also
backwards in the history. The same command again, or changed on the way, or signed by a stranger, is refused (SPEC 4.9.1, 7.4)."""
import json
import os

from harness import BASE, Subscriber, World, check, done, run, wait_for

HOUR = 3600


def recording(path, first, last):
    """A run of 500 W and ten minutes in each hour."""
    with open(path, "w") as f:
        f.write("timestamp,watts\n")
        for t in range(first * HOUR, last * HOUR, 10):
            f.write(f"{1700000000 // HOUR * HOUR + t},{500 + t // HOUR % 3 if 600 <= t % HOUR < 1200 else 1}\n")


def names(agent):
    result = json.loads(agent.ctl("events", "--json").stdout)
    return [e["appliance"] for e in reversed(result["events"])]


with World() as w:
    w.model = ""  # no model: everything is unknown
    subscriber = Subscriber(w)
    cert, key = w.pki.issue("operator")
    path = os.path.join(w.folder, "shed.csv")
    recording(path, 0, 5)
    agent = w.agent("gw", {"shed": {"type": "replay", "files": path, "speed": "max"}})
    agent.start()

    def publish(command):
        before = len(subscriber.messages)
        run("mosquitto_pub", "-h", "127.0.0.1", "-p", w.broker.port, "--cafile", w.pki.ca, "--cert", cert, "--key", key, "-q", "1",
            "-t", f"{BASE}/gw/command", "-m", command if isinstance(command, str) else json.dumps(command), check=True)
        replies = lambda: [p for t, p in subscriber.messages[before:] if t == f"{BASE}/gw/reply"]
        return json.loads((wait_for(replies, 20) or [b"{}"])[-1])

    told = lambda: [e["appliance"] for e in subscriber.items("event") if e["type"] == "off"]
    wait_for(lambda: len(told()) == 5, 30)
    check(told() == ["unknown", "unknown", "unknown-1", "unknown-1", "unknown-1"], f"told as {told()}")
    check(names(agent) == ["unknown-1"] * 5, "in the history the first ones, too")
    loads = json.loads(agent.ctl("unknown", "--json").stdout)["loads"]
    check(len(loads) == 1 and loads[0]["load"] == "unknown-1" and loads[0]["runs"] == 5 and abs(loads[0]["power"] - 500) < 10
          and abs(loads[0]["duration"] - 600) < 30, f"listed: {loads}")

    order = json.loads(agent.ctl("label", "unknown-1", "heat pump", "--sign", w.sign_key, "--device", "gw").stdout)
    stranger = w.key_pair("stranger", w.folder)
    foreign = json.loads(agent.ctl("label", "unknown-1", "oven", "--sign", stranger, "--device", "gw").stdout)
    elsewhere = json.loads(agent.ctl("label", "unknown-1", "oven", "--sign", w.sign_key, "--device", "gw2").stdout)
    for what, command in (("another name", {**order, "name": "oven"}), ("another time", {**order, "time": order["time"] + 1}),
                          ("of a stranger", foreign), ("for another device", elsewhere)):
        reply = publish(command)
        check(reply.get("ok") is False and "label" == reply.get("command"), f"{what}: {reply.get('error')}")
    check(names(agent) == ["unknown-1"] * 5, "nothing was named")
    reply = publish(order)
    check(reply.get("ok") is True and reply["result"] == {"runs": 5}, f"named: {reply}")
    check(names(agent) == ["heat pump"] * 5, "backwards in the history")
    reply = publish(order)
    check(reply.get("ok") is False and "before" in reply.get("error", ""), f"once more: {reply.get('error')}")

    agent.stop()
    recording(path, 0, 8)  # the recording has gone on
    agent.start()
    wait_for(lambda: len(told()) == 8, 30)
    check(told()[5:] == ["heat pump"] * 3, f"after a restart: {told()[5:]}")
    result = agent.ctl("label", "heat pump", "pool pump")
    check(result.returncode == 0 and "8 runs" in result.stdout, f"the name was wrong: {result.stdout.strip()}")
    check(names(agent) == ["pool pump"] * 8, "and is corrected the same way")
done()
