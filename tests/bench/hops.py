#!/usr/bin/python3
"""hops.py NILM_MODEL MODEL SVG - time and state of streaming for hops of 1 to 64 samples: a Markdown table, and a chart."""
import json
import math
import subprocess
import sys

HOPS = [1, 2, 4, 8, 16, 32, 64]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 60, 70, 40, 50


def line(points, colour):
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def label(x, y, text, anchor="middle", colour="#333"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def chart(report):
    """Left axis: microseconds a hop. Right axis: bytes of state, logarithmic."""
    hops = report["hops"]
    step = (WIDTH - LEFT - RIGHT) / (len(hops) - 1)
    top_us = max(report["full_us"], max(h["hop_us"] for h in hops)) * 1.1
    low, high = math.log2(512), math.log2(65536)

    def at(i, share):
        return LEFT + i * step, HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    times = [at(i, h["hop_us"] / top_us) for i, h in enumerate(hops)]
    states = [at(i, (math.log2(h["state_bytes"]) - low) / (high - low)) for i, h in enumerate(hops)]
    _, whole = at(0, report["full_us"] / top_us)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<line x1="{LEFT}" y1="{whole:.1f}" x2="{WIDTH - RIGHT}" y2="{whole:.1f}" stroke="#999" stroke-dasharray="4"/>',
             label(WIDTH / 2, whole - 5, f"whole window, {report['full_us']:.1f} us", colour="#777")]
    for i, h in enumerate(hops):
        parts.append(label(LEFT + i * step, HEIGHT - BOTTOM + 18, str(h["hop_samples"])))
        parts.append(label(times[i][0], times[i][1] - 8, f"{h['hop_us']:.1f}", colour="#1f5fa8"))
    for share in (0, 0.5, 1):
        _, y = at(0, share)
        parts.append(label(LEFT - 10, y + 4, f"{share * top_us:.0f} us", "end", "#1f5fa8"))
    for power in (10, 12, 14, 16):
        _, y = at(0, (power - low) / (high - low))
        parts.append(label(WIDTH - RIGHT + 10, y + 4, f"{2 ** power // 1024} KiB", "start", "#b4541a"))
    parts += [line(states, "#b4541a"), line(times, "#1f5fa8"),
              label(WIDTH / 2, HEIGHT - 10, "hop, samples between two results"),
              label(LEFT, 20, "time of a hop", "start", "#1f5fa8"), label(WIDTH - RIGHT, 20, "state a meter", "end", "#b4541a"), "</svg>"]
    return "\n".join(parts) + "\n"


def main():
    program, model, svg = sys.argv[1:]
    out = subprocess.run([program, "bench", "--model", model, "--hops", ",".join(map(str, HOPS)), "--json"], capture_output=True, text=True,
                         check=True).stdout
    report = json.loads(out)
    print("| hop | us | 90 % within | 99 % within | state bytes | of the whole window |")
    print("|---|---|---|---|---|---|")
    for h in report["hops"]:
        print(f"| {h['hop_samples']} | {h['hop_us']:.2f} | {h['hop_us_p90']:.2f} | {h['hop_us_p99']:.2f} | {h['state_bytes']} | "
              f"{h['hop_us'] / report['full_us']:.3f} |")
    with open(svg, "w") as f:
        f.write(chart(report))


main()
