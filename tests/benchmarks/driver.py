"""What a report costs the driver as a study grows: ``python -m tests.benchmarks.driver [TRIALS [NODES [PLACES]]]``.

The real searcher, pruner, storage, scheduler and callbacks run on a Ray cluster of NODES virtual nodes with
PLACES / NODES cores each. Trials sleep instead of training, so two real cores are enough. The figures are printed, and
drawn to ``driver.png`` if matplotlib is installed.
"""

import itertools
import math
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

REPORTS, PACE = 9, 4.0
"""Reports of a full trial, and how many seconds a trial sleeps before each."""


class Sleeper(tune.Trainable):
    """A trial that sleeps and reports a learning curve; it goes on from the newest checkpoint in its folder.

    A class of the main module is pickled by value, so workers import neither torch nor the models.
    """

    def setup(self, config: dict[str, Any], **parameters: Any) -> None:
        """Start a trial; the parameters of real trials are ignored."""
        saved = [int(path.read_text()) for path in Path(config["folder"]).glob("checkpoint_*/report")]
        self.report = max(saved, default=0)
        self.quality = random.Random(config["number"]).random()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Sleep, then report as many values as a real trial does."""
        time.sleep(PACE)
        self.report += 1
        score = self.quality * (1 - math.exp(-self.report / 3))
        curves = {f"train/term_{i}": score * i for i in range(12)}
        scores = {f"val/{name}": score for name in ("mIoU_fg", "ARI_FG", "MSE", "loss", "mIoU", "ARI")}
        times = {"time/train_s": PACE, "time/validation_s": 0.0}
        place = {"report": self.report, "step": 100 * self.report, "done": self.report == REPORTS, "lr": 1e-3}
        return {"objective": score, **place, **curves, **scores, **times}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the number of the last report."""
        (Path(checkpoint_dir) / "report").write_text(str(self.report))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continue from the checkpoint."""
        self.report = int((Path(checkpoint_dir) / "report").read_text())


class Meter(tune.Callback):
    """Reads the driver's clocks and memory at every result."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, float, float]] = []
        """Trials begun, wall seconds, processor seconds, resident MiB; one row per result."""
        self._begun = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Add a row."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rss = pages * resource.getpagesize() / 2**20
        self._begun = max(self._begun, trial.config["number"] + 1)
        self.rows.append((self._begun, time.monotonic(), time.process_time(), rss))


def run(trials: int, nodes: int, places: int) -> Meter:
    """A study of ``trials`` sleeping trials, ``places`` at a time on ``nodes`` nodes."""
    import ray
    from ray.cluster_utils import Cluster

    from study import presets
    from study.cluster import ray_runtime
    from study.config import StudyConfig
    from study.display.event_files import TensorBoardCallback
    from study.search import storage, strategies, tune
    from study.search.searcher import StudySearcher

    patience = {"RAY_worker_register_timeout_seconds": "900"}  # all workers start at the same time, on two cores
    for name, value in {**ray_runtime.QUIET, **patience, "RAY_AUTH_MODE": "disabled"}.items():
        os.environ.setdefault(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 2**27})
    for _ in range(nodes):
        cluster.add_node(num_cpus=places // nodes, object_store_memory=2**27)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(model="slot_attention", trials=trials, preset="tiny", results=folder, reports=REPORTS)
        study = presets.resolve(config, has_gpu=False)
        study.folder.claim(study.identity, fresh=False)
        optuna_study = storage.open_study(config, study.folder, study.identity)
        promotion = strategies.promotion(config.pruner, REPORTS, maximize=True)
        searcher = StudySearcher(optuna_study, study.folder, trials, study.proposal(10), promotion)
        tune.StudyTrainable = Sleeper  # type: ignore[misc, assignment]
        tune.tune_study(study, searcher, {}, lambda: places, [meter, TensorBoardCallback(config.metric, ())])
        journal = (study.folder.path / "optuna.journal").stat().st_size / 2**20
        states = [trial.state.name for trial in searcher.study.get_trials(deepcopy=False)]
        found = {state: states.count(state) for state in sorted(set(states))}
        print(f"{trials} trials, {places} at a time on {nodes} nodes: {found}, journal {journal:.1f} MiB")
    ray.shutdown()
    cluster.shutdown()
    return meter


def windows(meter: Meter, parts: int = 10) -> list[tuple[int, int, float, float, float]]:
    """For each tenth of the study: trials begun, results, processor ms and wall ms per result, MiB."""
    table = []
    edges = [round(i * (len(meter.rows) - 1) / parts) for i in range(parts + 1)]
    for low, high in itertools.pairwise(edges):
        (_, wall, cpu, _), (begun, wall_end, cpu_end, rss) = meter.rows[low], meter.rows[high]
        table.append((begun, high, 1e3 * (cpu_end - cpu) / (high - low), 1e3 * (wall_end - wall) / (high - low), rss))
    return table


def draw(table: list[tuple[int, int, float, float, float]], path: Path) -> None:
    """Draw the columns of ``table`` to ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    results = [row[1] for row in table]
    axes[0].plot(results, [row[2] for row in table], marker="o", label="processor")
    axes[0].plot(results, [row[3] for row in table], marker="o", label="wall")
    axes[0].set(xlabel="results so far", ylabel="ms per result")
    axes[0].legend(frameon=False, loc="upper center")
    axes[1].plot(results, [row[4] for row in table], marker="o", color="C2")
    axes[1].set(xlabel="results so far", ylabel="driver's memory (MiB)")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the study and print its table."""
    trials, nodes, places = (int(given) for given in (*sys.argv[1:], *("1000", "8", "32")[len(sys.argv) - 1 :]))
    table = windows(run(trials, nodes, places))
    print("| trials begun | results | processor ms per result | wall ms per result | MiB |\n|---:|---:|---:|---:|---:|")
    for begun, results, cpu, wall, rss in table:
        print(f"| {begun} | {results} | {cpu:.1f} | {wall:.1f} | {rss:.0f} |")
    try:
        draw(table, Path("driver.png"))
    except ImportError:
        print("no picture: pip install matplotlib")


if __name__ == "__main__":
    main()
