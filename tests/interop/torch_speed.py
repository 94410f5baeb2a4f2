#!/usr/bin/python3
"""torch_speed.py BUILD [ROUNDS [WINDOWS]] - training speed and memory of nilm-model beside PyTorch (Debian's python3-torch).

The same network (five convolutions with batch normalization and pools, two dense layers), batch (128), thread count (2), float32,
AdamW, dropout and label smoothing, WINDOWS windows an epoch, in interleaved rounds. Made-up traces. nilm-model draws, varies and
scales its windows in the time that is measured; PyTorch gets ready tensors. Loading, importing and three warm-up steps do not count
in either, the peak of resident memory is that of the whole process. PyTorch's threads wait spinning or sleeping, whichever is faster
in a round (spinning is, but on a busy machine it is many times slower). CPU time is that of all threads: sleeping for PyTorch, with
loading for nilm-model. Exit code 77: skipped, the message says why; 1: PyTorch was faster."""
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile

BATCH, THREADS, CLASSES = 128, 2, 12

TORCH = """
import json, sys, time
import torch
from torch import nn
windows, batch, threads, classes = map(int, sys.argv[1:5])
torch.set_num_threads(threads)
torch.manual_seed(1)
layers, channels, columns = [], 4, 512
for width, taps in ((16, 7), (32, 5), (64, 5), (64, 3), (96, 3)):
    layers += [nn.Conv1d(channels, width, taps), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2)]
    channels, columns = width, (columns - taps + 1) // 2
layers += [nn.Flatten(), nn.Dropout(0.1), nn.Linear(channels * columns, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, classes)]
net = nn.Sequential(*layers)
steps = windows // batch
x, y = torch.randn(steps * batch, 4, 512), torch.randint(0, classes, (steps * batch,))
optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 4)
loss = nn.CrossEntropyLoss(label_smoothing=0.1)
def step(i):
    optimizer.zero_grad(set_to_none=True)
    l = loss(net(x[i * batch:(i + 1) * batch]), y[i * batch:(i + 1) * batch])
    l.backward()
    optimizer.step()
    schedule.step()
    return l.item()
for _ in range(3):
    step(0)
started, busy = time.monotonic(), time.process_time()
for i in range(steps):
    step(i)
print(json.dumps({"windows_per_second": steps * batch / (time.monotonic() - started),
                  "cpu_ms": 1000 * (time.process_time() - busy) / (steps * batch), "parameters": sum(p.numel() for p in net.parameters()), "version": torch.__version__}))
"""


def skip(text):
    print("skipped: " + text)
    sys.exit(77)


def have_torch():
    return subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True).returncode == 0


def write_traces(folder):
    """CLASSES loads of their own level and period, three days each, a reading every 8 s."""
    rng = random.Random(1)
    for c in range(CLASSES):
        path = os.path.join(folder, "Load%02d" % c)
        os.mkdir(path)
        level, period = 20 * 1.6 ** c, 40 + 37 * c
        for day in range(1, 4):
            with open(os.path.join(path, "dev_AAAA%02d_2011.09.%02d.csv" % (c, day)), "w", encoding="ascii") as f:
                for i in range(10800):
                    on = (i // period) % 2
                    t = 8 * i
                    watts = level * (1 + 0.2 * math.sin(i / 9)) * rng.uniform(0.97, 1.03) if on else 0
                    f.write("%02d/09/2011 %02d:%02d:%02d;%d;0\n" % (day, t // 3600, t // 60 % 60, t % 60, watts))


def measured(command, **environment):
    """What the command printed as JSON, its peak of resident memory in MB, and its CPU time in seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as p:
        text = p.stdout.read()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode != 0:
        sys.exit("%s failed: exit code %d" % (command[0], p.returncode))
    return json.loads(text), usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def median(values):
    return sorted(values)[len(values) // 2]


def main():
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        sys.exit(__doc__)
    program = os.path.join(sys.argv[1], "agent", "nilm-model")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    windows = int(sys.argv[3]) if len(sys.argv) > 3 else 12800
    if not have_torch():
        if os.geteuid() == 0 and shutil.which("apt-get"):
            subprocess.run(["apt-get", "install", "-y", "-q", "python3-torch"], stdout=subprocess.DEVNULL, check=False)
        if not have_torch():
            skip("python3-torch is not installed and could not be")
    ours, theirs, ratios, cpu_ratios = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        os.mkdir(data)
        write_traces(data)
        train = [program, "train", "--data", data, "--out", os.path.join(folder, "m.nilm"), "--split", "none", "--min-traces", "0",
                 "--epochs", "1", "--epoch-windows", str(windows), "--batch", str(BATCH), "--threads", str(THREADS), "--json",
                 "--quiet"]
        torch = ["/usr/bin/python3", "-c", TORCH, str(windows), str(BATCH), str(THREADS), str(CLASSES)]
        for _ in range(rounds):
            result, peak, cpu = measured(train)
            ours.append((result["windows_per_second"], peak, 1000 * cpu / windows))
            spinning = measured(torch, OMP_WAIT_POLICY="ACTIVE")
            sleeping = measured(torch, OMP_WAIT_POLICY="PASSIVE")
            best = max(spinning[0]["windows_per_second"], sleeping[0]["windows_per_second"])
            theirs.append((best, max(spinning[1], sleeping[1]), sleeping[0]["cpu_ms"]))
            ratios.append(ours[-1][0] / theirs[-1][0])
            cpu_ratios.append(theirs[-1][2] / ours[-1][2])
            for name, (speed, memory, cost), count in (("nilm-model", ours[-1], result["parameters"]),
                                                       ("PyTorch", theirs[-1], sleeping[0]["parameters"])):
                print("%-10s %8.0f windows/s, %.3f ms of CPU a window, %4.0f MB, %d parameters" % (name, speed, cost, memory, count),
                      flush=True)
    print("medians of %d rounds, %d threads: nilm-model %.0f, PyTorch %s %.0f windows/s, ratio %.2f; by CPU time %.2f; memory %.0f and "
          "%.0f MB; load of the machine %.1f" %
          (rounds, THREADS, median([o[0] for o in ours]), sleeping[0]["version"], median([t[0] for t in theirs]), median(ratios),
           median(cpu_ratios), median([o[1] for o in ours]), median([t[1] for t in theirs]), os.getloadavg()[0]))
    return 0 if median(ratios) >= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
