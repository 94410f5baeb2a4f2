#!/usr/bin/python3
"""torch_peer.py NETWORK INPUTS OUTPUTS QDQ FP32 [fp32] - PyTorch on the benchmark network, with the conversation of peer.h.

INT8: torch.nn.quantized modules made from the same int8 weights, scales and zero points as every peer's, scripted and frozen, with the
best of the quantized engines that this build has. fp32: the same network in floats, scripted."""
import array
import sys
import time

import torch

import network_file
import onnx_read

WINDOW, COUNT, CLASSES = 512, 64, 32


def layers(qdq, fp32):
    nodes, tensors = onnx_read.load(qdq)
    _, real = onnx_read.load(fp32)
    for dense, ins, out, relu, pool, op in network_file.layers(nodes, tensors):
        name = op[ins[1]][1][0]
        shape, weights = tensors[name]
        yield dict(dense=dense, shape=shape, relu=relu, pool=pool, weights=weights, scales=tensors[op[ins[1]][1][1]][1],
                   input=network_file.quantization(ins[0], op, tensors), output=network_file.next_scale(out, nodes, tensors),
                   real=real[name][1], bias=real[name.replace("_w", "_b")][1])


def quantized(parts):
    import torch.nn.quantized as q
    modules = [q.Quantize(parts[0]["input"][0][0], parts[0]["input"][1][0], torch.quint8)]
    for p in parts:
        out, shape = p["shape"][0], p["shape"]
        weight = torch._make_per_channel_quantized_tensor(
            torch.tensor(p["weights"], dtype=torch.int8).reshape(shape), torch.tensor(p["scales"], dtype=torch.float64),
            torch.zeros(out, dtype=torch.int64), 0)
        if p["dense"]:
            if not any(isinstance(m, torch.nn.Flatten) for m in modules):
                modules.append(torch.nn.Flatten())
            m = (torch.nn.intrinsic.quantized.LinearReLU if p["relu"] else q.Linear)(shape[1], out)
        else:
            m = torch.nn.intrinsic.quantized.ConvReLU1d(shape[1], out, shape[2])
        m.set_weight_bias(weight, torch.tensor(p["bias"]))
        m.scale, m.zero_point = p["output"]
        modules.append(m)
        if p["pool"] == 2:
            modules.append(torch.nn.MaxPool1d(2))
    return torch.nn.Sequential(*modules, q.DeQuantize(), torch.nn.Softmax(1))


def floats(parts):
    modules = []
    for p in parts:
        shape = p["shape"]
        if p["dense"] and not any(isinstance(m, torch.nn.Flatten) for m in modules):
            modules.append(torch.nn.Flatten())
        m = torch.nn.Linear(shape[1], shape[0]) if p["dense"] else torch.nn.Conv1d(shape[1], shape[0], shape[2])
        m.weight.data = torch.tensor(p["real"]).reshape(shape)
        m.bias.data = torch.tensor(p["bias"])
        modules.append(m)
        if p["relu"]:
            modules.append(torch.nn.ReLU())
        if p["pool"] == 2:
            modules.append(torch.nn.MaxPool1d(2))
    return torch.nn.Sequential(*modules, torch.nn.Softmax(1))


def scripted(model, x):
    model.eval()
    m = torch.jit.freeze(torch.jit.trace(model, x))
    for _ in range(50):
        m(x)
    return m


def median_us(model, inputs, seconds):
    times, now = [], time.perf_counter
    end, n = now() + seconds, 0
    while True:
        before = now()
        model(inputs[n % COUNT])
        after = now()
        times.append(after - before)
        n += 1
        if after >= end:
            return sorted(times)[n // 2] * 1e6


def main():
    torch.set_num_threads(1)
    values = array.array("f", open(sys.argv[2], "rb").read())
    inputs = [torch.tensor(values[i * WINDOW:(i + 1) * WINDOW]).reshape(1, 1, WINDOW) for i in range(COUNT)]
    parts = list(layers(sys.argv[4], sys.argv[5]))
    with torch.inference_mode():
        if sys.argv[6:] == ["fp32"]:
            model = scripted(floats(parts), inputs[0])
        else:
            best = []
            for engine in torch.backends.quantized.supported_engines:
                if engine == "none":
                    continue
                try:
                    torch.backends.quantized.engine = engine
                    m = scripted(quantized(parts), inputs[0])
                    best.append((median_us(m, inputs, 0.2), engine, m))
                except RuntimeError as e:
                    print(f"{engine}: {e}", file=sys.stderr)
            _, engine, model = min(best, key=lambda b: b[0])
            torch.backends.quantized.engine = engine
            print("quantized engine: " + engine, file=sys.stderr)
        out = array.array("f")
        for x in inputs:
            out.extend(model(x).flatten().tolist())
        with open(sys.argv[3], "wb") as f:
            out.tofile(f)
        print("ready", flush=True)
        for line in sys.stdin:
            print(f"{median_us(model, inputs, float(line) / 1000):.3f}", flush=True)


main()
