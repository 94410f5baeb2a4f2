"""The process: which libraries it maps, how much memory it takes, that it starts and stops cleanly, that --help, --version
and --check-config do what they say."""
import os
import re
import signal
import time

from harness import NILM_MODEL, NILMCTL, NILMD, Subscriber, World, check, done, run, wait_for

sanitized = b"__asan_init" in open(NILMD, "rb").read() or b"__tsan_init" in open(NILMD, "rb").read()

for program in (NILMD, NILMCTL, NILM_MODEL):
    name = os.path.basename(program)
    result = run(program, "--help")
    check(result.returncode == 0 and "usage" in result.stdout.lower() and not result.stderr, f"{name} --help")
    result = run(program, "--version")
    check(result.returncode == 0 and re.search(r"\d+\.\d+\.\d+", result.stdout), f"{name} --version")
    result = run(program, "--no-such-option")
    check(result.returncode == 1 and "no-such-option" in result.stderr, f"{name} --no-such-option is a usage error")

with World() as world:
    ear = Subscriber(world)
    agent = world.agent("gw", {"fridge": {"type": "sim", "appliance": "Refrigerator", "seed": 3, "speed": 600}})
    check(run(NILMD, "--config", agent.config, "--check-config").returncode == 0, "--check-config accepts it")
    agent.start()
    check(wait_for(lambda: (ear.last("status") or {}).get("state") == "online", 20), "the status is online")
    check(wait_for(lambda: len(ear.items("event")) > 3, 60), "events arrive")
    maps = open(f"/proc/{agent.process.pid}/maps").read()
    libraries = sorted({os.path.basename(m) for m in re.findall(r"(/\S+\.so\S*)", maps)})
    print("      " + " ".join(libraries))
    check(not [x for x in libraries if re.match(r"lib(ssl|crypto)\b", x)], "no OpenSSL in the process")
    for wanted in ("mbedtls", "sqlite3", "paho-mqtt3a"):
        there = [x for x in libraries if wanted in x]
        check(there or (wanted == "paho-mqtt3a" and b"MQTTAsync_" in open(NILMD, "rb").read()), f"{wanted} {there}")
    rss = agent.rss_kib()
    check(sanitized or rss < 12 * 1024, f"resident memory with one meter {rss / 1024:.1f} MB (under 12)")
    check(agent.stop() == 0, "SIGTERM ends it with exit code 0")
    check(wait_for(lambda: (ear.last("status") or {}).get("state") == "stopped", 10), "the status is stopped")

    agent.start()
    check(wait_for(lambda: (ear.last("status") or {}).get("state") == "online", 20), "online again")
    agent.process.send_signal(signal.SIGKILL)
    agent.process.wait()
    check(wait_for(lambda: (ear.last("status") or {}).get("state") == "offline", 60), "after SIGKILL the will says offline")

    agent.start()
    time.sleep(0.5)
    second = run(NILMD, "--config", agent.config, timeout=20)
    check(second.returncode != 0 and second.stderr, f"a second agent on one data folder refuses: {second.stderr[-200:]!r}")
done()
