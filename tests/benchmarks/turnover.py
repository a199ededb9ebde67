"""What a study of short trials loses between them: ``python -m tests.benchmarks.turnover [TRIALS]``.

One real study by the real command, two trials at a time, on the embedded default with a warm cache of shards. Its
trials are a tenth as long as the preset's, so that the useful share is a lower bound. What trials did comes from their
curves: each report has its seconds of training and of validation, and the time at which it reached the driver.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from study.results_folder import ROOT, StudyFolder

PLACES = 2
STUDY = ["--model", "slot_attention", "--steps", "280", "--pruner", "none"]
STUDY += ["--seeds", "1", "--finalists", "1", "--no-curve"]


def study(trials: int, place: Path) -> tuple[Path, float]:
    """Run a study of ``trials`` trials under ``place``; its folder, and the time at which its command was given."""
    where = ["--results", str(place / "results"), "--cache", str(place / "cache"), "--name", f"of-{trials}"]
    more = ["--trials", str(trials), "--concurrent", str(PLACES)]
    begun = time.time()
    subprocess.run(
        [sys.executable, str(ROOT / "study" / "run.py"), *STUDY, *where, *more],
        check=True,
        cwd=place,
        stdout=subprocess.DEVNULL,
    )
    return place / "results" / f"of-{trials}", begun


def spans(folder: Path) -> list[tuple[float, float, float]]:
    """Of each trial: when its first step began, when its last report came, and its seconds of work between."""
    found = []
    for trial in sorted(StudyFolder(folder).trials.glob("trial_*")):
        events = EventAccumulator(str(trial)).Reload()
        if "time/train_s" not in events.Tags()["scalars"]:
            continue
        train, validation = (events.Scalars(f"time/{what}_s") for what in ("train", "validation"))
        first = train[0].wall_time - train[0].value - validation[0].value
        found.append((first, train[-1].wall_time, sum(event.value for event in [*train, *validation])))
    return sorted(found)


def measure(trials: int = 50) -> dict[str, Any]:
    """Seconds to the first step, seconds between two trials on a worker, and the share of the time that is work."""
    with tempfile.TemporaryDirectory() as place:
        study(PLACES, Path(place))  # draws the scenes
        folder, begun = study(trials, Path(place))
        found = spans(folder)
    starts, ends = sorted(span[0] for span in found), sorted(span[1] for span in found)
    between = [start - end for start, end in zip(starts[PLACES:], ends, strict=False)]
    wall = ends[-1] - starts[0]
    return {
        "trials": len(found),
        "seconds a trial": statistics.median(end - start for start, end, _ in found),
        "to the first step, s": starts[0] - begun,
        "between trials, s": statistics.median(between),
        "most between trials, s": max(between),
        "useful": sum(work for _, _, work in found) / (PLACES * wall),
    }


def main() -> None:
    """Print the figures."""
    for name, value in measure(*map(int, sys.argv[1:])).items():
        print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()
