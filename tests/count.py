"""Counts test cases in ctest's LastTest.log: each cmocka case, and each program that is not cmocka's. Exits 1 on a failure."""
import re
import sys

passed = failed = skipped = 0
text = open(sys.argv[1], errors="replace").read()
for part in re.split(r"^\d+/\d+ Testing: ", text, flags=re.M)[1:]:
    name = part.split("\n", 1)[0]
    ok = re.search(r"^Test Passed\.", part, re.M)
    gone = re.search(r"^Test (?:Skipped|Not Run)", part, re.M) or "Skip return code" in part
    cases = {word: sum(int(n) for n in re.findall(r"\[ +%s +\] (\d+) test\(s\)" % word, part))
             for word in ("PASSED", "FAILED", "SKIPPED")}
    if gone and not ok:
        skipped += 1
        print(f"skipped: {name}")
    elif cases["PASSED"] + cases["SKIPPED"] + cases["FAILED"] == 0:
        passed, failed = (passed + 1, failed) if ok else (passed, failed + 1)
    else:
        passed += cases["PASSED"]
        skipped += cases["SKIPPED"]
        # A program that crashed or leaked fails even when all of its cases passed.
        failed += cases["FAILED"] or (0 if ok else 1)
    if not ok and not gone:
        print(f"failed: {name}")
if passed + failed == 0:
    failed = 1
if skipped:
    print(f"({skipped} skipped)")
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
