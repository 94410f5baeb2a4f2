#!/usr/bin/python3
"""torch_onnx.py BUILD - networks exported by PyTorch import, and evaluate to within 1e-4 of PyTorch's outputs.

The article's network and odd ones, as Conv1d and as Conv2d of unit height or width, without batch normalization and with it before the
ReLU, behind it and behind the pool, folded by torch (TrainingMode.EVAL) and left in the file (PRESERVE), in several opsets. What
cannot be imported must be refused with its operator. Debian's python3-torch is installed when it is missing and that is possible; its
export needs no further package. Exit code 77: skipped, the message says why."""
import array
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

OPSETS = (9, 11, 13, 16)
WINDOWS = 16
LIMIT = 1e-4


def skip(text):
    print("skipped: " + text)
    sys.exit(77)


def load_torch():
    try:
        import torch
        return torch
    except ImportError:
        pass
    if os.geteuid() or not shutil.which("apt-get"):
        skip("needs Debian's python3-torch (apt-get install python3-torch, as root)")
    print("installing python3-torch", flush=True)
    install = subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "python3-torch"], capture_output=True, text=True,
                             env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
    if install.returncode:
        skip("apt-get could not install python3-torch: " + install.stderr.strip()[-300:])
    import torch
    return torch


torch = load_torch()
nn = torch.nn


class Unsqueezed(nn.Module):
    """A network on inputs whose unit dimension is made, and is in the file, at the given place."""

    def __init__(self, body, place):
        super().__init__()
        self.body, self.place = body, place

    def forward(self, x):
        return self.body(x.unsqueeze(self.place))


class Code(nn.Module):
    """What cannot be said with Sequential."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.code = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.code(self, x)


def conv(form, inputs, outputs, taps, **more):
    if form == "1d":
        return nn.Conv1d(inputs, outputs, taps, **more)
    return nn.Conv2d(inputs, outputs, (1, taps) if form == "height" else (taps, 1), **more)


def pool(form, size):
    return nn.MaxPool1d(size) if form == "1d" else nn.MaxPool2d((1, size) if form == "height" else (size, 1))


def norm(form, width):
    return nn.BatchNorm1d(width) if form == "1d" else nn.BatchNorm2d(width)


def article(form, place):
    """1->16->32->64->64->96 channels, taps 7,5,5,3,3, pools of 2, dense 1248->128->32. place: of the batch normalization."""
    layers, width = [], 1
    for outputs, taps in ((16, 7), (32, 5), (64, 5), (64, 3), (96, 3)):
        layers.append(conv(form, width, outputs, taps))
        if place == "before relu":
            layers.append(norm(form, outputs))
        layers.append(nn.ReLU())
        if place == "behind relu":
            layers.append(norm(form, outputs))
        layers.append(pool(form, 2))
        if place == "behind pool":
            layers.append(norm(form, outputs))
        width = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1248, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 32))


def prepare(net):
    """Weights that neither fade nor explode, statistics and factors as after training; factors of both signs where that is exact."""
    modules = list(net.modules())
    for i, m in enumerate(modules):
        if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight)
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            pooled = i + 1 < len(modules) and isinstance(modules[i + 1], (nn.MaxPool1d, nn.MaxPool2d))
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.05, 2.0)
            m.weight.data.normal_(0.9, 0.4)
            if pooled:
                m.weight.data.abs_()
            m.bias.data.normal_(0, 0.3)
    [m for m in modules if isinstance(m, nn.Linear)][-1].weight.data.mul_(0.2)  # logits of the size that training makes
    return net.eval()


def odd_networks():
    """(name, network, shape of one window as the file takes it, shape as [channels, window] when that is another order, ending)."""
    yield "one layer on flat inputs", nn.Sequential(nn.Linear(40, 5)), (40,), None, "logits"
    yield "flat inputs made 3-D", Unsqueezed(nn.Sequential(nn.Conv1d(1, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(141, 4)), 1), (50,), None, "logits"
    yield "three inputs, softmax", nn.Sequential(nn.Conv1d(3, 7, 1, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.MaxPool1d(3),
                                                 nn.Conv1d(7, 5, 2), nn.Flatten(), nn.Linear(95, 6), nn.Softmax(1)), (3, 61), None, "softmax"
    yield "sigmoid", nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(4, ceil_mode=True), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3, bias=False),
                                   nn.Sigmoid()), (2, 34), None, "sigmoid"
    yield "log-softmax", nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(120, 3), nn.LogSoftmax(1)), (1, 32), None, "log"
    yield "normalized inputs and units", nn.Sequential(nn.BatchNorm1d(2), nn.Conv1d(2, 4, 3), nn.ReLU(), nn.BatchNorm1d(4), nn.Flatten(),
                                                       nn.BatchNorm1d(120), nn.Linear(120, 9), nn.BatchNorm1d(9), nn.ReLU(),
                                                       nn.BatchNorm1d(9), nn.Linear(9, 3)), (2, 32), None, "logits"
    yield "view of sizes", Code(lambda s, x: s.d(torch.relu(s.c(x)).view(x.size(0), -1)), c=nn.Conv1d(1, 4, 3), d=nn.Linear(120, 3)), (1, 32), None, "logits"
    yield "view of a product", Code(lambda s, x: (lambda y: s.d(y.view(-1, y.size(1) * y.size(2))))(s.c(x)), c=nn.Conv1d(1, 4, 3),
                                    d=nn.Linear(120, 3)), (1, 32), None, "logits"
    yield "sizes taken early", Code(lambda s, x: (lambda n, y: s.d(y.reshape(n, -1)))(x.shape[0], torch.relu(s.c(x))), c=nn.Conv1d(1, 4, 3),
                                    d=nn.Linear(120, 3)), (1, 32), None, "logits"
    yield "time first", Code(lambda s, x: s.d(torch.flatten(torch.relu(s.c(x.permute(0, 2, 1))), 1)), c=nn.Conv1d(2, 4, 3),
                             d=nn.Linear(120, 3)), (32, 2), (2, 32), "logits"
    yield "flattened time first", Code(lambda s, x: s.d(torch.flatten(torch.relu(s.c(x)).transpose(1, 2), 1)), c=nn.Conv1d(2, 4, 3),
                                       d=nn.Linear(120, 3)), (2, 32), None, "logits"
    yield "constants on channels", Code(lambda s, x: s.d(torch.flatten((torch.relu(s.c((x - 0.5) / 0.25)) * s.f) + 0.1, 1)), c=nn.Conv1d(2, 4, 3),
                                        f=nn.Parameter(torch.randn(4, 1)), d=nn.Linear(120, 3)), (2, 32), None, "logits"
    yield "in one column", nn.Sequential(nn.Conv1d(1, 8, 20), nn.ReLU(), nn.MaxPool1d(13), nn.Flatten(), nn.Linear(8, 3)), (1, 32), None, "logits"


def refused_networks():
    """(what the message must say, network): all on two inputs of 32 samples."""
    def tail(width):
        return nn.Flatten(), nn.Linear(width, 3)
    yield "(Conv): pads", nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), *tail(128))
    yield "(Conv): strides", nn.Sequential(nn.Conv1d(2, 4, 3, stride=2), *tail(60))
    yield "(Conv): dilations", nn.Sequential(nn.Conv1d(2, 4, 3, dilation=2), *tail(112))
    yield "(Conv): group", nn.Sequential(nn.Conv1d(2, 4, 3, groups=2), *tail(120))
    yield "(MaxPool): kernel 3, stride 2", nn.Sequential(nn.MaxPool1d(3, 2), *tail(30))
    yield "(MaxPool): pads", nn.Sequential(nn.MaxPool1d(4, padding=2), *tail(18))
    yield "(MaxPool): ceil_mode", nn.Sequential(nn.MaxPool1d(3, ceil_mode=True), *tail(22))
    yield "(Relu): stands behind", nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.BatchNorm1d(4), nn.ReLU(), *tail(120))
    yield "(LeakyRelu)", nn.Sequential(nn.Conv1d(2, 4, 3), nn.LeakyReLU(), *tail(120))
    yield "(AveragePool)", nn.Sequential(nn.AvgPool1d(2), *tail(32))
    yield "(Tanh)", nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), *tail(120))
    yield "(Add): reads", Code(lambda s, x: s.d((lambda y: y + torch.relu(y))(s.c(x)).flatten(1)), c=nn.Conv1d(2, 4, 3), d=nn.Linear(120, 3))


class Check:
    def __init__(self, build, folder):
        self.tool = os.path.join(build, "agent", "nilm-model")
        self.answers = os.path.join(build, "tests", "interop_answers")
        self.folder, self.worst, self.largest, self.count, self.failures = folder, 0.0, 0.0, 0, []

    def export(self, net, shape, opset, mode):
        path = f"{self.folder}/net.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net, torch.zeros(2, *shape), path, opset_version=opset, training=mode, input_names=["x"], output_names=["y"],
                              dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})
        return path

    def run_import(self, path, channels):
        return subprocess.run([self.tool, "import", "--onnx", path, "--out", f"{self.folder}/net.nilm", "--features",
                               ",".join(["linear"] * channels)], capture_output=True, text=True)

    def compare(self, name, net, shape, order, ending, opset, mode):
        """order: (channels, window)."""
        path = self.export(net, shape, opset, mode)
        x = torch.randn(WINDOWS, *shape)
        with torch.no_grad():
            expected = net(x)
        expected = expected.exp() if ending == "log" else expected
        in_order = x.transpose(1, 2) if tuple(shape) != tuple(order) and len(shape) == 2 else x
        with open(f"{self.folder}/x", "wb") as f:
            array.array("f", in_order.reshape(-1).tolist()).tofile(f)
        done = self.run_import(path, order[0])
        self.count += 1
        label = f"{name}, opset {opset}, {'BatchNormalization in the file' if b'BatchNormalization' in open(path, 'rb').read() else 'none in the file'}"
        if done.returncode:
            self.failures.append(f"{label}: {done.stderr.strip()}")
            return
        subprocess.run([self.answers, f"{self.folder}/net.nilm", "logits" if ending == "logits" else "probabilities",
                        f"{self.folder}/x", f"{self.folder}/y"], check=True, capture_output=True)
        ours = array.array("f")
        ours.frombytes(open(f"{self.folder}/y", "rb").read())
        ours = torch.tensor(ours).reshape(expected.shape)
        difference = float((ours - expected).abs().max())
        self.worst = max(self.worst, difference)
        self.largest = float(expected.abs().max())
        if not float(expected.std(0).max()) > 0.01:
            self.failures.append(f"{label}: PyTorch's outputs are all alike, which shows nothing")
        if not difference < LIMIT:
            self.failures.append(f"{label}: differs by {difference:.2g}, values up to {float(expected.abs().max()):.2g}")

    def compare_all(self, name, net, shape, order, ending):
        before, self.worst = self.worst, 0.0
        for opset in OPSETS:
            for mode in (torch.onnx.TrainingMode.EVAL, torch.onnx.TrainingMode.PRESERVE):
                self.compare(name, net, shape, order, ending, opset, mode)
        print(f"{name}: largest difference {self.worst:.2g}, outputs up to {self.largest:.2g}", flush=True)
        self.worst = max(before, self.worst)

    def refused(self, text, net):
        done = self.run_import(self.export(prepare(net), (2, 32), 13, torch.onnx.TrainingMode.PRESERVE), 2)
        self.count += 1
        print(done.stderr.strip())
        if done.returncode != 2 or text not in done.stderr:
            self.failures.append(f"expected a refusal with \"{text}\", got {done.returncode}: {done.stderr.strip()}")


def main():
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        sys.exit("usage: torch_onnx.py BUILD")
    torch.manual_seed(1)
    torch.set_num_threads(1)
    print("PyTorch " + torch.__version__)
    with tempfile.TemporaryDirectory(prefix="nilm-interop-") as folder:
        check = Check(os.path.abspath(sys.argv[1]), folder)
        for place in ("no batch normalization", "before relu", "behind relu", "behind pool"):
            check.compare_all(f"article, Conv1d, {place}", prepare(article("1d", place)), (1, 512), (1, 512), "logits")
            for form, axis in (("height", 2), ("width", 3)):
                net = Unsqueezed(prepare(article(form, place)), axis).eval()
                check.compare_all(f"article, Conv2d of unit {form}, {place}", net, (1, 512), (1, 512), "logits")
        form = nn.Sequential(*article("height", "before relu"))
        check.compare_all("article, Conv2d, 4-D input", prepare(form), (1, 1, 512), (1, 512), "logits")
        for name, net, shape, order, ending in odd_networks():
            check.compare_all(name, prepare(net), shape, order or (1, *shape)[-2:], ending)
        for text, net in refused_networks():
            check.refused(text, net)
    for text in check.failures:
        print("FAIL  " + text)
    print(f"{check.count} files, largest difference {check.worst:.2g}, {len(check.failures)} failures")
    sys.exit(1 if check.failures else 0)


main()
