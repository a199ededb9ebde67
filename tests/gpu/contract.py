"""The tests marked ``gpu``, by pytest: a row per test that all models keep, and one per model that does not."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict

from data import machine
from tests.gpu.rows import Rows, setting


def main() -> int:
    """Run the tests; the exit status is pytest's."""
    given = setting()
    rows = Rows(given.rows)
    results = given.rows.with_name("junit.xml")
    which = ["-k", "cpu and contract", "-m", "not ray"] if given.small else ["-m", "gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}", *which]
    processes = ["-n", str(min(4, machine.usable_cores()))] if not given.small else []
    done = subprocess.run([*command, *processes, "tests/trainables"], stdin=subprocess.DEVNULL)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        failure = next((child for child in case if child.tag in ("failure", "error")), None)
        skipped = any(child.tag == "skipped" for child in case)
        name = str(case.get("name"))
        counts[name.partition("[")[0]][1 if skipped else 0] += failure is None
        if failure is not None:
            rows.add(name, (failure.get("message") or failure.tag).splitlines()[0][:160])
    for name, (passed, skipped_count) in counts.items():
        rows.add(name, "ok", passed=passed, skipped=skipped_count)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
