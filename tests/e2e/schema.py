"""Validates published messages against transport/schemas (SPEC sections 3 and 4).

    validate(topic, payload)    raises Invalid with the field that is wrong; returns the decoded object (bytes of a push)
    name_of_topic(topic, base)  name of the schema of a topic, "bundle" for pushes; raises Invalid when it is none of ours
"""
import json
import math
import os
import re

import jsonschema

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SCHEMAS = os.path.join(ROOT, "transport", "schemas")
NAMES = ("event", "alert", "summary", "gap", "report", "status", "model", "command", "reply")
METERED = ("event", "alert", "summary")
LEVEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_validators = {}


class Invalid(Exception):
    pass


def load(name):
    with open(os.path.join(SCHEMAS, name + ".schema.json"), encoding="utf-8") as f:
        return json.load(f)


def _validator(name):
    if name not in _validators:
        schema = load(name)
        jsonschema.Draft202012Validator.check_schema(schema)
        _validators[name] = jsonschema.Draft202012Validator(schema)
    return _validators[name]


def name_of_topic(topic, base="nilm/v1"):
    if not topic.startswith(base + "/"):
        raise Invalid(f"{topic}: not below {base}/")
    levels = topic[len(base) + 1:].split("/")
    if not all(LEVEL.fullmatch(level) for level in levels):
        raise Invalid(f"{topic}: a level is empty, too long or has other characters")
    if len(levels) == 3 and levels[0] == "group" and levels[2] == "push":
        return "bundle"
    if levels[0] == "group":
        raise Invalid(f"{topic}: no such topic")
    if len(levels) == 3 and levels[1] in METERED:
        return levels[1]
    if len(levels) == 2 and levels[1] == "push":
        return "bundle"
    if len(levels) == 2 and levels[1] in NAMES and levels[1] not in METERED:
        return levels[1]
    raise Invalid(f"{topic}: no such topic")


def _no_duplicates(pairs):
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _no_constants(text):
    raise ValueError(f"{text} is not JSON")


def check(name, payload):
    """Validates the bytes of one payload against one schema and returns the object."""
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except ValueError as error:
        raise Invalid(f"{name}: {error}: {payload[:200]!r}") from None
    errors = sorted(_validator(name).iter_errors(value), key=lambda e: list(map(str, e.path)))
    if errors:
        where = "/".join(map(str, errors[0].path)) or "the object"
        raise Invalid(f"{name}: {where}: {errors[0].message}: {payload[:400]!r}")
    return value


def _agrees(topic, name, value, base):
    """What a schema cannot say: the payload agrees with its topic and with itself."""
    levels = topic[len(base) + 1:].split("/")
    if "device" in value and value["device"] != levels[0]:
        raise Invalid(f"{topic}: device is {value['device']!r}")
    if "meter" in value and name in METERED and value["meter"] != levels[2]:
        raise Invalid(f"{topic}: meter is {value['meter']!r}")
    if "seq" in value and value["id"] != f"{value['epoch']}-{value['seq']}":
        raise Invalid(f"{topic}: id {value['id']!r} is not EPOCH-SEQ")
    if name == "gap" and not (value["from_seq"] <= value["to_seq"]
                              and value["count"] <= value["to_seq"] - value["from_seq"] + 1):
        raise Invalid(f"{topic}: from_seq, to_seq and count do not agree")
    if value.get("type") == "off":
        if value["end"] < value["start"]:
            raise Invalid(f"{topic}: ends before it starts")
        if not math.isclose(value["duration"], (value["end"] - value["start"]) / 1000, abs_tol=0.0015):
            raise Invalid(f"{topic}: duration {value['duration']} is not end - start")


def validate(topic, payload, base="nilm/v1"):
    name = name_of_topic(topic, base)
    if name == "bundle":
        if payload[:4] != b"NILB":
            raise Invalid(f"{topic}: not a bundle")
        return payload
    value = check(name, payload)
    _agrees(topic, name, value, base)
    return value
