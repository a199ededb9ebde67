"""A study of a thousand tiny trials: ``python -m tests.benchmarks.soak [TRIALS [STORAGE ...]]``.

STORAGE is journal, sqlite or postgresql; by default all three, where a PostgreSQL server and psycopg are installed. The
real command's searcher, sampler, pruner, storage, scheduler and callbacks run on a Ray of its own. Trials report at
once instead of training. For each tenth of the study it prints the driver's time per report, its memory and its open
files, and at the end the bytes per trial.
"""

import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import driver
from tests.faults import databases

REPORTS = 3


class Row(NamedTuple):
    """The driver after a tenth of the results."""

    trials: int
    results: int
    cpu_ms: float
    """processor time per result"""
    wall_ms: float
    slowest_ms: float
    """the longest time between two results"""
    mib: float
    files: int
    threads: int


class Meter(driver.Meter):
    """Counts open files and threads, too."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[int, int]] = []

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Add a row."""
        super().on_trial_result(iteration, trials, trial, result, **info)
        self.open.append((len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))

    def tenths(self) -> list[Row]:
        """The table."""
        walls = [wall for _, wall, _, _ in self.rows]
        edges = [round(i * (len(self.rows) - 1) / 10) for i in range(11)]
        table = []
        for low, high in itertools.pairwise(edges):
            (_, wall, cpu, _), (begun, wall_end, cpu_end, rss) = self.rows[low], self.rows[high]
            slowest = max(b - a for a, b in itertools.pairwise(walls[low : high + 1]))
            per = 1e3 / (high - low)
            files, threads = self.open[high]
            row = Row(begun, high, per * (cpu_end - cpu), per * (wall_end - wall), 1e3 * slowest, rss, files, threads)
            table.append(row)
        return table


def run(trials: int, url: str | None, results: Path) -> Meter:
    """A study of ``trials`` trials in the storage at ``url``, or in a journal."""
    from ray import cloudpickle

    from study import presets
    from study.cluster import ray_runtime
    from study.config import StudyConfig
    from study.display.event_files import TensorBoardCallback
    from study.search import storage, strategies, tune
    from study.search.searcher import StudySearcher

    driver.REPORTS, driver.PACE = REPORTS, 0.0
    cloudpickle.register_pickle_by_value(driver)  # type: ignore[no-untyped-call]
    ray_runtime.start(None)
    config = StudyConfig(
        model="slot_attention", trials=trials, preset="tiny", results=str(results), reports=REPORTS, storage=url
    )
    study = presets.resolve(config, has_gpu=False)
    study.folder.claim(study.identity, fresh=False)
    optuna_study = storage.open_study(config, study.folder, study.identity)
    promotion = strategies.promotion(config.pruner, REPORTS, maximize=True)
    searcher = StudySearcher(optuna_study, study.folder, trials, study.proposal(10), promotion)
    tune.StudyTrainable = driver.Sleeper  # type: ignore[misc, assignment]
    meter = Meter()
    tune.tune_study(study, searcher, {}, lambda: 2, [meter, TensorBoardCallback(config.metric, ())])
    states = [trial.state.name for trial in searcher.study.get_trials(deepcopy=False)]
    assert len(states) == trials and set(states) <= {"COMPLETE", "PRUNED"}, states
    ray_runtime.leave()
    return meter


@contextlib.contextmanager
def storages(name: str, folder: Path) -> Iterator[tuple[str | None, Path]]:
    """The URL of a new storage, and where its bytes lie."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'study.db'}", folder / "study.db"
    elif name == "postgresql":
        with databases.postgresql() as server:
            yield server.url, server.folder / "data" / "base"
    else:
        yield None, folder


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(found.stat().st_size for found in (path.rglob("*") if path.is_dir() else [path]) if found.is_file())


def main() -> None:
    """Run the studies and print their tables."""
    trials, names = int((*sys.argv[1:2], "1000")[0]), sys.argv[2:] or ["journal", "sqlite", "postgresql"]
    if "postgresql" in names and not databases.available():
        names.remove("postgresql")
        print("no PostgreSQL: its server or psycopg is not installed")
    for name in names:
        with tempfile.TemporaryDirectory() as folder, storages(name, Path(folder)) as (url, place):
            empty = size(place) if place.exists() else 0
            meter = run(trials, url, Path(folder) / "results")
            journal = next(Path(folder).rglob("optuna.journal"), None)
            stored = size(journal) if journal else size(place) - empty
            left = sum(size(path) for path in Path(folder).rglob("trials") if path.is_dir())
        print(
            f"\n{name}: {trials} trials, {len(meter.rows)} reports; {stored / trials:,.0f} bytes per trial in the",
            end=" ",
        )
        print(f"storage, {left / trials:,.0f} in its folder\n")
        print("| trials begun | reports | processor ms per report | wall ms | slowest, ms | MiB | files | threads |")
        print("|---:|---:|---:|---:|---:|---:|---:|---:|")
        for row in meter.tenths():
            print("| " + " | ".join(f"{value:.0f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    main()
