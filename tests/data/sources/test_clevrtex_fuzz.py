"""Six hundred seeded damages to images, masks, descriptions and archives: none is taken for data."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.data.sources import damages
from tests.test_architecture import ROOT

DAMAGES = 605
SEED = 15


def damaged(folder: Path, seed: int, count: int) -> list[tuple[int, str, str, str]]:
    """The outcomes of all damages; a program that hung goes on with the next one."""
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    found: list[tuple[int, str, str, str]] = []
    while len(found) < count:
        numbers = [str(seed), str(len(found)), str(count)]
        command = [sys.executable, "-m", "tests.data.sources.damages", *numbers, str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        found += [tuple(json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode:
            last = "hang" if done.returncode == -signal.SIGALRM else f"traceback: {done.stderr}"
            found.append((len(found), "?", "?", last))
    return found


def test_no_damage_is_taken_for_data(tmp_path):
    found = damaged(tmp_path, SEED, DAMAGES)
    wrong = [each for each in found if each[3] not in ("refused", "harmless", "texts")]
    assert len(found) == DAMAGES and not wrong
    counts = Counter((what, outcome) for _, what, _, outcome in found)
    assert {what for what, _ in counts} == set(damages.KINDS)
    assert all(counts[what, "refused"] > counts[what, "harmless"] + counts[what, "texts"] for what in damages.KINDS)
    # What changes nothing that is read is not refused: a renumbered mask, a bit in a place on the stage.
    assert {how for _, what, how, outcome in found if (what, outcome) == ("mask", "harmless")} >= {"renumber"}
