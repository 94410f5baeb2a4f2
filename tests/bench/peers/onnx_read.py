"""onnx_read.py - just enough of ONNX's protobuf to read the benchmark networks: nodes and initializers, nothing else."""
import array


def fields(data):
    """(number, value) of one protobuf message; value is an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
            yield key >> 3, data[at:at + size]
            at += size
        else:
            size = varint()
            yield key >> 3, data[at:at + size]
            at += size


CODES = {1: "f", 2: "B", 3: "b", 6: "i", 7: "q"}


def tensor(data):
    """(name, shape, values) of a TensorProto with raw_data, or with packed or repeated numbers."""
    name, shape, kind, raw, numbers = "", [], 0, None, []
    for number, value in fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else list(unpack(value))
        elif number == 2:
            kind = value
        elif number == 8:
            name = value.decode()
        elif number == 9:
            raw = value
        elif number == 4:
            numbers += list(array.array("f", value))
        elif number in (5, 7):
            numbers += [value] if isinstance(value, int) else list(unpack(value))
    if raw is not None:
        numbers = array.array(CODES[kind], raw)
    return name, shape, [n - (1 << 64) if kind != 1 and n >= 1 << 63 else n for n in numbers]


def unpack(data):
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def load(path):
    """(nodes, tensors) of a file: nodes as (op, inputs, outputs) in their order, tensors as {name: (shape, values)}."""
    nodes, tensors = [], {}
    with open(path, "rb") as f:
        (graph,) = [v for n, v in fields(f.read()) if n == 7]
    for number, value in fields(graph):
        if number == 1:
            parts = list(fields(value))
            names = [[v.decode() for n, v in parts if n == wanted] for wanted in (1, 2)]
            nodes.append(([v.decode() for n, v in parts if n == 4][0], *names))
        elif number == 5:
            name, shape, values = tensor(value)
            tensors[name] = (shape, values)
    return nodes, tensors
