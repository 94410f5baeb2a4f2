"""True switchings of a recorded trace by threshold, written independently of the agent's detector, and the matching of
events to them. Definition: with hysteresis (on at >= on_w, off at < off_w); on- and off-stretches shorter than
min_on_s / min_off_s are bridged; a hole of more than `silence` seconds ends a run."""
import calendar
import glob
import os
import time


def read_tracebase(path):
    """[(unix seconds, watts)] in strictly ascending time; what cannot be parsed is left out."""
    readings, last = [], None
    for line in open(path, errors="replace"):
        parts = line.strip().split(";")
        try:
            t = time.strptime(parts[0], "%d/%m/%Y %H:%M:%S")
            watts = float(parts[1])
        except (ValueError, IndexError):
            continue
        seconds = calendar.timegm(t)
        if last is not None and seconds == last:
            readings[-1] = (seconds, watts)
        elif last is None or seconds > last:
            readings.append((seconds, watts))
            last = seconds
    return readings


def switchings(readings, on_w=15, off_w=10, min_on_s=2, min_off_s=30, silence=600):
    """[(unix seconds, "on"|"off")], alternating."""
    result, on, since, last_t = [], False, None, None
    for t, watts in readings:
        if last_t is not None and t - last_t > silence:
            if on:  # the run ended with the last reading, or where its unconfirmed off-stretch began
                result.append((since if since is not None else last_t, "off"))
            on, since = False, None
        if on:
            if watts >= off_w:
                since = None
            else:
                since = t if since is None else since
                if t - since >= min_off_s:
                    result.append((since, "off"))
                    on, since = False, None
        else:
            if watts < on_w:
                since = None
            else:
                since = t if since is None else since
                if t - since >= min_on_s:
                    result.append((since, "on"))
                    on, since = True, None
        last_t = t
    if on:
        result.append((since if since is not None else last_t, "off"))
    return result


def match(true, found, tolerance=10):
    """How many of the true (seconds, kind) have an own found one of the same kind within tolerance."""
    count = 0
    for kind in ("on", "off"):
        free = sorted(t for t, k in found if k == kind)
        for t in sorted(t for t, k in true if k == kind):
            near = next((f for f in free if abs(f - t) <= tolerance), None)
            if near is not None:
                free.remove(near)
                count += 1
    return count


def sample_files(data, classes=None, per_class=None):
    """[(class, path)] of the day files in the sample."""
    result = []
    for folder in sorted(glob.glob(os.path.join(data, "tracebase/sample/complete/*"))):
        name = os.path.basename(folder)
        if classes is None or name in classes:
            result += [(name, f) for f in sorted(glob.glob(os.path.join(folder, "*.csv")))[:per_class]]
    return result
