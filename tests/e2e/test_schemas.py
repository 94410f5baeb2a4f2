#!/usr/bin/python3
"""The JSON Schemas and the AsyncAPI document: sound in themselves, in step with SPEC.md, and strict (SPEC 3, 4)."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import jsonschema
    import schema
except ImportError as error:
    print(f"skipped: {error} (Debian: python3-jsonschema)")
    sys.exit(77)

DOCUMENT = os.path.join(schema.ROOT, "transport", "asyncapi.yaml")
count = 0


def check(condition, text):
    global count
    count += 1
    if not condition:
        print(f"failed: {text}")
        sys.exit(1)


def accepted(name, value):
    try:
        schema.check(name, json.dumps(value).encode())
        return True
    except schema.Invalid:
        return False


def described(where, node):
    """Every property says what it means."""
    for key, value in node.get("properties", {}).items():
        check("description" in value, f"{where}.{key}: no description")
        described(f"{where}.{key}", value)
        described(f"{where}.{key}[]", value.get("items", {}))


def closed(where, node):
    """Every object that lists its properties allows no others."""
    if "properties" in node and "type" in node:
        check(node.get("additionalProperties") is False, f"{where}: additional properties are allowed")
    for key, value in list(node.get("properties", {}).items()) + [("items", node.get("items"))]:
        if isinstance(value, dict):
            closed(f"{where}.{key}", value)


def wrong_values(value):
    if isinstance(value, bool):
        return ["true", 1, None]
    if isinstance(value, (int, float)):
        return ["1", None, [], True]
    if isinstance(value, str):
        return [1, None, {}]
    return ["text", 1]


def broken_variants(node, example):
    """Each required key removed, an unknown key added, each value of another type."""
    for key in node["required"]:
        yield f"without {key}", {k: v for k, v in example.items() if k != key}
    yield "with an unknown key", {**example, "watts": [1, 2, 3]}
    for key, value in example.items():
        for wrong in wrong_values(value):
            yield f"{key} = {wrong!r}", {**example, key: wrong}
        if "maxLength" in node["properties"][key]:
            yield f"{key} too long", {**example, key: "x" * 100000}
    for key, value in example.items():
        inner = node["properties"][key]
        if isinstance(value, dict) and "properties" in inner:
            for text, broken in broken_variants(inner, value):
                yield f"{key}: {text}", {**example, key: broken}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for text, broken in broken_variants(inner["items"], value[0]):
                yield f"{key}[0]: {text}", {**example, key: [broken] + value[1:]}


def test_schemas():
    files = sorted(os.listdir(schema.SCHEMAS))
    check(files == sorted(f"{n}.schema.json" for n in schema.NAMES), f"unexpected files: {files}")
    for name in schema.NAMES:
        node = schema.load(name)
        jsonschema.Draft202012Validator.check_schema(node)
        check(node["$schema"].endswith("2020-12/schema"), f"{name}: $schema")
        check(set(node["required"]) <= set(node["properties"]), f"{name}: requires what it does not describe")
        described(name, node)
        closed(name, node)
        check(len(node["examples"]) >= 1, f"{name}: no example")
        variants = 0
        for example in node["examples"]:
            schema.check(name, json.dumps(example).encode())
            for text, broken in broken_variants(node, example):
                check(not accepted(name, broken), f"{name}: accepted {text}: {broken}")
                variants += 1
        print(f"{name}: {len(node['examples'])} examples accepted, {variants} broken variants refused")


def test_conditions():
    """What only holds together with another value."""
    on, identified, off, state = schema.load("event")["examples"]
    for key in ("state", "from"):
        check(not accepted("event", {k: v for k, v in state.items() if k != key}), f"state without {key}")
        check(not accepted("event", {**on, key: state[key]}), f"on with {key}")
    for key in ("appliance", "confidence", "model", "run"):
        check(not accepted("event", {k: v for k, v in on.items() if k != key}), f"on without {key}")
        check(not accepted("event", {**state, key: on[key]}), f"state with {key}")
    for key in ("start", "end", "duration", "energy", "peak", "end_reason"):
        check(not accepted("event", {k: v for k, v in off.items() if k != key}), f"off without {key}")
        check(not accepted("event", {**on, key: off[key]}), f"on with {key}")
    check(not accepted("event", {k: v for k, v in identified.items() if k != "start"}), "identified without start")
    for key, value in (("confidence", 1.01), ("confidence", -0.1), ("seq", 0), ("time", 1.5), ("appliance", ""),
                       ("meter", "a/b"), ("meter", "-a"), ("id", "7"), ("type", "maybe"), ("time_quality", "good")):
        check(not accepted("event", {**on, key: value}), f"event with {key} = {value!r}")
    online = schema.load("status")["examples"][0]
    for key in online:
        check(not accepted("status", {k: v for k, v in online.items() if k != key}), f"online without {key}")
    check(accepted("status", {**online, "model": None}), "status without a model")
    refused = schema.load("model")["examples"][1]
    check(not accepted("model", {**refused, "reason": ""}), "refused without a reason")
    check(not accepted("command", {"id": "1", "command": "forget"}), "forget without a meter")
    check(not accepted("command", {"id": "1", "command": "ping", "meter": "m"}), "ping with a meter")
    check(not accepted("command", {"id": "1", "command": "snooze", "alert": "a"}), "snooze without a duration")
    check(not accepted("command", {"id": "1", "command": "snooze", "alert": "a", "duration": "1 hour"}), "snooze for 1 hour")
    check(not accepted("command", {"id": "1", "command": "forget", "meter": "m", "alert": "a"}), "forget with an alert")
    check(not accepted("command", {"id": "1", "command": "models", "family": "mains"}), "models of a family")
    label = schema.load("command")["examples"][-1]
    for key in ("load", "name", "time", "key", "signature"):
        check(not accepted("command", {k: v for k, v in label.items() if k != key}), f"label without {key}")
    check(not accepted("command", {"id": "1", "command": "ping", "load": "unknown-1"}), "ping with a load")
    check(not accepted("command", {"id": "1", "command": "reboot"}), "an unknown command")
    check(not accepted("reply", {"id": "1", "command": "ping", "ok": False}), "failed reply without an error")
    check(not accepted("reply", {"id": "1", "command": "ping", "ok": True, "error": "x"}), "good reply with an error")
    print("conditions hold")


def test_topics():
    on = schema.load("event")["examples"][0]

    def refused(topic, payload):
        try:
            schema.validate(topic, payload)
            return False
        except schema.Invalid:
            return True

    def text(**changes):
        return json.dumps({**on, **changes}).encode()

    schema.validate("nilm/v1/gw-1/event/kitchen", text())
    schema.validate("nilm/v1/group/west/push", b"NILB....")
    for topic in ("nilm/v1/gw-1/event", "nilm/v1/gw-1/event/a/b", "nilm/v1/gw-1/power", "nilm/v2/gw-1/gap", "nilm/v1/group/gap",
                  "nilm/v1//status", "nilm/v1/gw-1/event/", "nilm/v1/gw-1/alert/kitchen", "nilm/v1/gw-2/event/kitchen",
                  "nilm/v1/gw-1/event/cellar"):
        check(refused(topic, text()), f"an event was accepted on {topic}")
    for payload in (b"", b"\xff", b"[]", b"null", b"{", text(id="1-1"), text().replace(b"0.31", b"NaN"),
                    text().replace(b'"seq"', b'"seq": 42, "seq"')):
        check(refused("nilm/v1/gw-1/event/kitchen", payload), f"accepted {payload!r}")
    gap = schema.load("gap")["examples"][0]
    for changes in ({"to_seq": 2}, {"count": 19}):
        check(refused("nilm/v1/gw-1/gap", json.dumps({**gap, **changes}).encode()), f"gap with {changes}")
    off = schema.load("event")["examples"][2]
    check(refused("nilm/v1/gw-1/event/kitchen", json.dumps({**off, "duration": 1}).encode()), "wrong duration")
    print("topics and payloads are held together")


def walk(node, path=""):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield path, value
            yield from walk(value, f"{path}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from walk(value, f"{path}/{i}")


def resolve(document, ref):
    if ref.startswith("#/"):
        node = document
        for level in ref[2:].split("/"):
            node = node[level]
        return node
    with open(os.path.join(os.path.dirname(DOCUMENT), ref), encoding="utf-8") as f:
        return json.load(f)


def spec_topics():
    """The table of SPEC section 3: topic -> (direction, QoS, retained)."""
    with open(os.path.join(schema.ROOT, "SPEC.md"), encoding="utf-8") as f:
        rows = re.findall(r"^\| `BASE/(\S+)` \| (in|out) \| (\d)(, yes)?", f.read(), re.M)
    return {"nilm/v1/" + re.sub(r"\b(DEVICE|GROUP|METER)\b", lambda m: "{" + m[1].lower() + "}", topic):
            (direction, int(qos), bool(retained)) for topic, direction, qos, retained in rows}


def test_asyncapi():
    try:
        import yaml
    except ImportError:
        print("asyncapi.yaml: not checked (Debian: python3-yaml)")
        return
    with open(DOCUMENT, encoding="utf-8") as f:
        document = yaml.safe_load(f)
    refs = list(walk(document))
    for path, ref in refs:
        try:
            resolve(document, ref)
        except (KeyError, OSError, ValueError) as error:
            check(False, f"{path}: {ref}: {error!r}")
    check(document["asyncapi"] == "3.0.0", "version")
    used = {ref for _, ref in refs if ref.startswith("./")}
    check(used == {f"./schemas/{n}.schema.json" for n in schema.NAMES}, f"schemas and document differ: {used}")
    spec, seen = spec_topics(), {}
    check(len(spec) == 11, f"SPEC section 3 has {len(spec)} topics")
    operations = {}
    for operation in document["operations"].values():
        operations[operation["channel"]["$ref"]] = (operation["action"], resolve(document, operation["bindings"]["$ref"])["mqtt"])
        if "reply" in operation:
            operations[operation["reply"]["channel"]["$ref"]] = ("send", {"qos": 1, "retain": False})
    for key, channel in document["channels"].items():
        address = channel["address"]
        check(set(re.findall(r"\{(\w+)\}", address)) == set(channel["parameters"]), f"{key}: parameters")
        action, binding = operations[f"#/channels/{key}"]
        seen[address] = ("out" if action == "send" else "in", binding["qos"], binding["retain"])
        topic = address.replace("{device}", "gw-1").replace("{group}", "west").replace("{meter}", "kitchen")
        check(list(channel["messages"]) == [schema.name_of_topic(topic)], f"{key}: message of {topic}")
    check(seen == spec, f"topics of SPEC.md and asyncapi.yaml differ: {set(seen.items()) ^ set(spec.items())}")
    print(f"asyncapi.yaml: {len(refs)} references resolve, {len(seen)} topics as in SPEC.md")


def source(*path):
    with open(os.path.join(schema.ROOT, *path), encoding="utf-8") as f:
        return re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)


def keys_written(path, functions):
    """Names of the members that these functions of a C file add to a JSON object."""
    text, keys = source(*path.split("/")), set()
    for function in functions:
        body = re.search(r"^[a-z][^;{}\n]*\b%s\([^;{}]*\)\n\{\n(.*?)^\}" % function, text, re.S | re.M)
        check(body, f"{path} has no function {function}")
        keys |= set(re.findall(r"\b(?:json_\w+|cJSON_Add\w+|add_\w+)\(\s*\w+,\s*\"([a-z0-9_]+)\"", body[1]))
        keys |= set(re.findall(r"\\\"([a-z0-9_]+)\\\":", body[1]))
    return keys


def keys_described(node):
    keys = set(node.get("properties", {}))
    for value in list(node.get("properties", {}).values()) + ([node["items"]] if "items" in node else []):
        keys |= keys_described(value)
    return keys


WRITERS = {
    "event": [("agent/payload.c", ("payload_event", "add_phases", "payload_state"))],
    "alert": [("agent/payload.c", ("payload_alert",))],
    "summary": [("agent/summary.c", ("make_body", "add_load", "add_machine"))],
    "gap": [("storage/outbox_evict.c", ("declare_one",))],
    "report": [("agent/payload.c", ("payload_report",))],
    "model": [("agent/payload.c", ("payload_model",))],
    "status": [("agent/status.c", ("add_all", "add_meters", "describe_meter", "add_appliances", "add_recording", "add_model", "add_outbox", "add_store"))],
    "reply": [("agent/command.c", ("reply",))],
}


def test_program():
    """What the program sends and takes is what the schemas and the document say."""
    envelope = keys_written("agent/payload.c", ("payload_envelope",))
    check(envelope == {"id", "device", "epoch", "seq", "replay"}, f"the envelope has {envelope}")
    for name, places in WRITERS.items():
        written = set().union(*(keys_written(path, functions) for path, functions in places))
        written |= envelope if name in ("event", "alert", "summary", "gap", "report") else set()
        described_ = keys_described(schema.load(name))
        check(written == described_, f"{name}: only in the code {written - described_}, only in the schema {described_ - written}")
    command = schema.load("command")["properties"]
    taken = set(re.findall(r'strcmp\(item->string, "(\w+)"\)', source("agent", "command.c")))
    check(taken == set(command), f"members of commands differ: {taken ^ set(command)}")
    known = set(re.findall(r'strcmp\(r->command, "(\w+)"\)', source("agent", "command.c")))
    check(known == set(command["command"]["enum"]), f"commands differ: {known ^ set(command['command']['enum'])}")
    check(set(WRITERS) | {"command"} == set(schema.NAMES), "a schema without the code that writes it")

    kinds = dict(re.findall(r'\{TOPIC_(\w+), "(\w+)", [01]\}', source("transport", "topic.c")))
    declared = re.findall(r"\bTOPIC_(\w+)", re.search(r"enum topic_kind \{(.*?)\}", source("transport", "topic.h"), re.S)[1])
    check(set(declared) == set(kinds) | {"GROUP_PUSH"}, f"kinds of topics: {declared}")
    addresses = {address.split("/")[-1 if "{" not in address.split("/")[-1] else -2] for address in spec_topics()}
    check(set(kinds.values()) == addresses, f"topics of the code and the document differ: {set(kinds.values()) ^ addresses}")
    agent = "".join(source("agent", f) for f in sorted(os.listdir(os.path.join(schema.ROOT, "agent"))) if f.endswith(".c"))
    used = set(re.findall(r"\bTOPIC_(\w+)", agent)) - {"BYTES", "NAME_BYTES"}
    check(used == set(declared), f"the agent has no use for, or does not declare: {used ^ set(declared)}")
    raised = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", re.search(r"^4\.3 .*?^4\.3\.1", source("SPEC.md"), re.S | re.M)[0]))
    names = {n for n in raised | {"drift"} if f'"{n}"' in agent} - {"time_quality", "alert_id", "limit_w", "limit_day_wh"}
    text = schema.load("alert")["properties"]["alert"]["description"]
    check(len(names) == 18 and all(re.search(rf"\b{n}\b", text) for n in names), f"alerts of SPEC 4.3, the code and the schema: {sorted(n for n in names if n not in text)}, {len(names)}")
    print(f"{len(WRITERS)} payloads, {len(known)} commands, {len(declared)} topics and {len(names)} alerts are those of the code")


test_schemas()
test_conditions()
test_topics()
test_asyncapi()
test_program()
print(f"{count} checks passed")
