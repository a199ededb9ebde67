"""What reports and proposals cost the searcher as a study grows, without Ray.

``python -m tests.benchmarks.searcher [TRIALS [PLACES]]``, of which so many run at a time.

The real searcher, sampler, promotion and journal; made-up learning curves come as fast as they are taken. So ten
thousand trials take minutes. ``python -m tests.benchmarks.driver`` measures the whole driver.
"""

import itertools
import math
import random
import statistics
import sys
import tempfile
import time
from typing import Any

import optuna

from study import presets
from study.config import StudyConfig
from study.search import storage, strategies
from study.search.searcher import StudySearcher

REPORTS = 9
"""Of a full trial."""

METRICS = ("mIoU_fg", "ARI_FG", "MSE", "loss", "mIoU", "ARI")


def searcher(trials: int, folder: str) -> StudySearcher:
    """Of a new study of SPACE in ``folder``, as the command makes it."""
    config = StudyConfig(model="space", trials=trials, preset="tiny", results=folder, reports=REPORTS)
    study = presets.resolve(config, has_gpu=False)
    study.folder.claim(study.identity, fresh=False)
    opened = storage.open_study(config, study.folder, study.identity)
    promotion = strategies.promotion(config.pruner, REPORTS, maximize=True)
    return StudySearcher(opened, study.folder, trials, study.proposal(10), promotion)


def result(report: int, score: float) -> dict[str, Any]:
    """What a trial reports."""
    place = {"report": report, "step": 100 * report, "done": report == REPORTS, "objective": score, "hostname": "host"}
    times = {"time/train_s": 4.0, "time/validation_s": 0.1}
    return {**place, **times, "parameters": 5, **{f"val/{name}": score for name in METRICS}}


def run(trials: int = 2000, places: int = 32) -> None:
    """Print a line after every so many reports, about ten in all."""
    window = max(50, trials // 4)
    rng, ids = random.Random(0), itertools.count()
    quality: dict[int, float] = {}
    reports: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        searched = searcher(trials, folder)
        live: dict[str, int] = {}
        proposed: list[float] = []
        done, begun = 0, time.process_time()
        print("| trials begun | reports | processor ms per report | per proposal |\n|---:|---:|---:|---:|")
        while True:
            while len(live) < places:
                asked = time.process_time()
                if not isinstance(config := searched.suggest(tune_id := str(next(ids))), dict):
                    break
                number = live[tune_id] = config["number"]
                if number not in quality:  # a new trial, not one that goes on
                    quality[number] = rng.random()
                    proposed.append(time.process_time() - asked)
            if not live:
                break
            tune_id = rng.choice(list(live))
            number = live[tune_id]
            reports[number] = reports.get(number, 0) + 1
            said = result(reports[number], quality[number] * (1 - math.exp(-reports[number] / 3)))
            if said["done"] or searched.record(tune_id, said):
                searched.on_trial_complete(tune_id, said)
                del live[tune_id]
            done += 1
            if done % window == 0:
                now = time.process_time()
                each = 1000 * (now - begun) / window, 1000 * statistics.median(proposed or [math.nan])
                print(f"| {len(quality)} | {done} | {each[0]:.1f} | {each[1]:.1f} |", flush=True)
                begun, proposed = now, []


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run(*map(int, sys.argv[1:]))
