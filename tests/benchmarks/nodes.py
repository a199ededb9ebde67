"""A study on three nodes; one is killed and a fourth joins: ``python -m tests.benchmarks.nodes [FOLDER]``.

The nodes are raylets with their own host names, addresses and processes (``tests.study.cluster.virtual_nodes``). The
study is the real command. Its results say where each trial ran, and Ray's timeline says where shards were loaded and
trials scored. A second node is killed during the final stage. Before the study, a first part measures what shards of
64 MB cost a node that did not load them.
"""

import collections
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import ray
from ray._private.internal_api import node_stats  # no public one works without a dashboard
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data import store
from data.scenes import Scenes
from data.writing import Facts, write
from study.cluster import ray_runtime
from study.search import storage
from tests.study.cluster.virtual_nodes import ENVIRONMENT, ROOT, VirtualCluster, virtual_cluster

TRIALS, REPORTS = 24, 5
ROWS, SIDE = 3900, 128
"""Images of the shards that travel, and their size: four shards of 64 MB."""

STUDY = [
    *("--model", "slot_attention", "--data", "synthetic:plain-(32,32)", "--validation-images", "50"),
    *("--trials", str(TRIALS), "--steps", "300", "--reports", str(REPORTS), "--pruner", "none"),
    *("--finalists", "2", "--seeds", "1"),
]


def main(folder: Path) -> None:
    """Run both parts and print the results."""
    with virtual_cluster(store=400 * 2**20) as cluster:
        cluster.add(store=400 * 2**20)
        cluster.add(store=400 * 2**20)
        ray.init(
            address=cluster.address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
        try:
            transfer(folder)
            study(cluster, folder)
        finally:
            ray.shutdown()  # before its head is killed


def study(cluster: VirtualCluster, folder: Path) -> None:
    """The study: one node is killed and one joins while trials run; another is killed while trials are scored."""
    where = ["--results", str(folder / "results"), "--cache", str(folder / "cache"), "--name", "nodes"]
    command = [sys.executable, str(ROOT / "study/run.py"), "--address", cluster.address, *STUDY, *where]
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", flush=True)

    say(f"nodes {', '.join(cluster.nodes)}: {' '.join(command[1:])}")
    results = folder / "results/nodes"
    with (folder / "study.log").open("w") as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, cwd="/", stdout=log, stderr=subprocess.STDOUT)

    def wait(what: Callable[[], Any]) -> Any:
        while not (found := what()):
            assert process.poll() is None, (folder / "study.log").read_text()
            time.sleep(0.2)
        return found

    wait(lambda: (results / "optuna.journal").exists())
    victim = wait(lambda: next((t for t in trials(results) if running(t) == ("node-3", 2)), None))
    cluster.kill("node-3")
    say(f"node-3 killed, where trial {victim.number} had made {len(victim.intermediate_values)} reports of {REPORTS}")
    cluster.add(store=400 * 2**20)
    say("node-4 has joined")
    wait(lambda: (results / "evaluation.parquet").exists())
    cluster.kill("node-2")
    say("node-2 killed, with the first of 15 scores written")
    status = process.wait()
    say(f"the study ended with status {status}")
    by_host = collections.Counter(host for trial in trials(results) for host in trial.user_attrs["progress"]["hosts"])
    states = collections.Counter(trial.state.name for trial in trials(results))
    moved = {t.number: t.user_attrs["progress"]["hosts"] for t in trials(results) if len(hosts(t)) > 1}
    print(f"trials: {dict(states)}; on each node: {dict(sorted(by_host.items()))}; moved: {moved}")
    scores = pq.read_table(results / "evaluation.parquet", columns=["entry", "split"]).to_pylist()
    print(f"pairs scored: {len({(row['entry'], row['split']) for row in scores})}")
    for name in ("_read", "score_trial", "score_baseline"):
        print(f"{name} on each node: {tasks(name)}")


def trials(results: Path) -> list[optuna.trial.FrozenTrial]:
    """The study's trials as they are now."""
    try:
        return storage.load_study(results).get_trials(deepcopy=False)
    except (ValueError, KeyError):
        return []  # not yet begun


def hosts(trial: optuna.trial.FrozenTrial) -> list[str]:
    """The hosts that a trial has reported from."""
    return trial.user_attrs.get("progress", {}).get("hosts", [])


def running(trial: optuna.trial.FrozenTrial) -> tuple[str, int] | None:
    """The host of a running trial and the number of its reports."""
    if trial.state.name != "RUNNING" or not hosts(trial):
        return None
    return hosts(trial)[-1], len(trial.intermediate_values)


def tasks(name: str) -> dict[str, int]:
    """How many tasks ``name`` each node has run, without those that a killed node had not yet reported."""
    names = {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in ray.nodes()}
    ran = [names[event["pid"]] for event in ray.timeline() if event["cat"] == f"task::{name}"]
    return dict(sorted(collections.Counter(ran).items()))


def transfer(folder: Path) -> None:
    """How long a node takes to read shards that others have loaded."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8)
    scenes = Scenes(np.arange(ROWS), images, images[..., 0] % 5, [{"ground_material": "", "objects": []}] * ROWS)
    index = write(str(folder / "shards"), {"train": [scenes]}, Facts("random", (SIDE, SIDE)))
    refs = store.load(index, ["train"])["train"]
    print(f"{len(refs)} shards of {index.shards('train')[0].bytes / 1e6:.0f} MB")
    show_stores("after loading")
    for node in alive():
        pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        seconds = ray.get(ray.remote(num_cpus=0, scheduling_strategy=pinned)(gather).remote(refs))
        first, *again = (f"{1e3 * each:.0f} ms" for each in seconds)
        print(f"{node['NodeManagerHostname']}: the first batch takes {first}, the next {' and '.join(again)}")
    show_stores("after a batch on each")


def gather(refs: list[ray.ObjectRef]) -> list[float]:
    """Seconds to open all shards and gather a batch of 64 images, measured three times."""
    rows = np.random.default_rng(1).integers(0, ROWS, 64)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        store.open_split(refs).gather(rows)
        seconds.append(time.perf_counter() - started)
    return seconds


def show_stores(when: str) -> None:
    """Print the size of each node's object store."""
    for node in alive():
        stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False).store_stats
        megabytes = f"{stats.object_store_bytes_used / 1e6:.0f} MB in {stats.num_local_objects} objects"
        print(f"{when}: {node['NodeManagerHostname']} has {megabytes}")


def alive() -> list[dict[str, Any]]:
    """The nodes that are up, in the order of their names."""
    return sorted(ray_runtime.alive(), key=lambda node: node["NodeManagerHostname"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
