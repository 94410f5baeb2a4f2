"""network_file.py - writes a benchmark network, read from its QDQ and FP32 ONNX files, as the flat file that peer.h reads.

All peers and ours get the same int8 weights, biases, scales and zero points. Dense inputs are put into time-major order, which is
what every engine here computes in. Little-endian: int32 count, then each layer: int32 dense, inputs, outputs, taps, pool, relu,
in_zero, out_zero; f32 in_scale, out_scale; f32 weight_scale [out]; int32 bias [out]; int8 weights [out][tap][in], zero bytes up to a
multiple of 4; f32 bias [out]; f32 weights."""
import array
import struct

import onnx_read


def ordered(values, shape, columns):
    """[out][in][tap], or [out][channel][time] of a dense layer, to [out][tap][in]."""
    out = shape[0]
    taps = shape[2] if len(shape) == 3 else columns
    inputs = len(values) // out // taps
    return [values[(o * inputs + c) * taps + k] for o in range(out) for k in range(taps) for c in range(inputs)]


def layers(nodes, tensors):
    """(weight name, bias name, input name, output name, relu, pool) of each layer."""
    op = {out: (kind, ins) for kind, ins, (out,) in nodes}
    readers = {}
    for kind, ins, (out,) in nodes:
        readers.setdefault(ins[0], []).append((kind, out))

    def follow(name, kinds):
        """The first tensor behind name that an operator of these kinds makes, over QuantizeLinear and the like."""
        while name in readers:
            kind, out = readers[name][0]
            if kind in kinds:
                return out
            if kind not in ("QuantizeLinear", "DequantizeLinear", "Relu"):
                return None
            name = out
        return None

    for kind, ins, (out,) in nodes:
        if kind in ("Conv", "Gemm"):
            relu = any(k == "Relu" for k, _ in readers.get(out, []))
            pool = 2 if follow(out, ("MaxPool",)) else 1
            yield kind == "Gemm", ins, out, relu, pool, op


def quantization(name, op, tensors):
    """(scale, zero) of a DequantizeLinear's output."""
    kind, ins = op[name]
    assert kind == "DequantizeLinear", name
    return tensors[ins[1]][1], tensors[ins[2]][1]


def next_scale(name, nodes, tensors):
    """Scale and zero point by which a layer's output is quantized: of the first QuantizeLinear behind it."""
    while True:
        kind, ins, outs = next(n for n in nodes if n[1] and n[1][0] == name)
        if kind == "QuantizeLinear":
            return tensors[ins[1]][1][0], tensors[ins[2]][1][0]
        name = outs[0]


def write(qdq, fp32, path, window=512):
    nodes, tensors = onnx_read.load(qdq)
    real_nodes, real = onnx_read.load(fp32)
    real_names = [n[1] for n in real_nodes if n[0] in ("Conv", "Gemm")]
    found = list(layers(nodes, tensors))
    columns = window
    with open(path, "wb") as f:
        f.write(struct.pack("<i", len(found)))
        for (dense, ins, out, relu, pool, op), names in zip(found, real_names):
            shape, weights = tensors[op[ins[1]][1][0]]
            _, bias = tensors[op[ins[2]][1][0]]
            scales, _ = quantization(ins[1], op, tensors)
            (in_scale,), (in_zero,) = quantization(ins[0], op, tensors)
            out_scale, out_zero = next_scale(out, nodes, tensors)
            split = columns if dense and columns > 1 else 1
            taps = shape[2] if not dense else 1
            inputs = shape[1]
            f.write(struct.pack("<8i2f", dense, inputs, shape[0], taps, pool, relu, in_zero, out_zero, in_scale, out_scale))
            array.array("f", scales).tofile(f)
            array.array("i", bias).tofile(f)
            data = array.array("b", ordered(weights, shape, split))
            data.frombytes(bytes(-len(data) % 4))
            data.tofile(f)
            array.array("f", real[names[2]][1]).tofile(f)
            array.array("f", ordered(real[names[1]][1], real[names[1]][0], split)).tofile(f)
            columns = (columns - taps + 1) // pool if not dense else 1
