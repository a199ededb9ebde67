"""Several nodes: those that cannot run trials are named, trials and scores are spread, nodes join and leave."""

import dataclasses
import importlib.metadata
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data import convert, spec
from study.cluster import preflight
from study.cluster.preflight import faults, look
from study.results_folder import ROOT, StudyFolder
from study.search import storage
from tests import own_folder
from tests.study.cluster import virtual_nodes
from tests.study.cluster.virtual_nodes import ENVIRONMENT, virtual_cluster

pytestmark = pytest.mark.ray

DATA = "synthetic:plain-(32,32)"
REPORTS, STEPS = 5, 150


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder that all nodes share, with the shards in it."""
    folder = tmp_path_factory.mktemp("shared")
    convert.prepare(spec.parse(DATA), cache=str(folder / "cache"))
    (folder / "results").mkdir()
    return folder


@pytest.fixture(scope="module")
def cluster():
    if not virtual_nodes.available():
        pytest.skip("needs unshare, as root or with user namespaces")
    with virtual_cluster() as made:
        made.add()
        yield made


class Command:
    """``study/run.py`` on the cluster, as a process."""

    def __init__(self, cluster, shared, *more):
        self.results = shared / "results" / "study"
        self.log = shared / "log"
        small = ["--data", DATA, "--validation-images", "40", "--steps", str(STEPS), "--reports", str(REPORTS)]
        where = ["--results", str(shared / "results"), "--cache", str(shared / "cache"), "--name", "study"]
        asked = ["--model", "slot_attention", "--pruner", "none", "--finalists", "1", "--seeds", "1"]
        address = ["--address", cluster.address, "--preset", "tiny"]
        command = [sys.executable, str(ROOT / "study/run.py"), *address, *asked, *small, *where, *more]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=ENVIRONMENT, cwd="/", stdout=log, stderr=subprocess.STDOUT)

    def wait(self, status):
        """Wait for the end, and return what was printed."""
        try:
            assert self.process.wait(300) == status, self.log.read_text()
        finally:
            self.process.kill()
        return self.log.read_text()

    def trials(self):
        try:
            return storage.load_study(self.results).get_trials(deepcopy=False)
        except (ValueError, KeyError):
            return []  # not yet begun

    def until(self, what):
        """The first trial that ``what`` is true of, as soon as there is one."""
        deadline = time.monotonic() + 300
        while True:
            for trial in self.trials():
                if what(trial):
                    return trial
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)


def hosts(trial):
    return trial.user_attrs.get("progress", {}).get("hosts", [])


def misfit(shared, folder):
    """Shell commands that give a node disks of its own, other sources, another numpy and little shared memory."""
    source = folder / "stopping.py"
    source.write_text((ROOT / "study/search/stopping.py").read_text() + "# another state\n")
    (metadata,) = [f for f in importlib.metadata.files("numpy") if f.match("*.dist-info/METADATA")]
    original = Path(metadata.locate())
    other = folder / "METADATA"
    other.write_text(
        original.read_text().replace(f"\nVersion: {importlib.metadata.version('numpy')}", "\nVersion: 1.0")
    )
    return " && ".join(
        [
            f"mount -t tmpfs none {shared}/results",
            f"mount -t tmpfs none {shared}/cache",
            f"mount -t tmpfs none {shared}/mine",
            "mount -t tmpfs -o size=1m none /dev/shm",
            f"mount --bind {source} {ROOT}/study/search/stopping.py",
            f"mount --bind {other} {original}",
        ]
    )


def test_a_node_that_cannot_run_trials_is_named_with_all_that_is_wrong(cluster, shared, tmp_path):
    own_folder.write(shared / "mine", own_folder.METRIC)
    name = cluster.add(gpus=2, before=misfit(shared, tmp_path))
    said = Command(cluster, shared, "--gpus", "1", "--plugins", str(shared / "mine")).wait(status=2)
    cluster.kill(name)
    first, line = [line for line in said.splitlines() if "cannot" in line]
    assert first == "error: 1 of 3 nodes cannot take part:"
    address = f"127.0.0.{name.removeprefix('node-')}"
    assert line.startswith(f"  {name} ({address}) does not see what the driver writes to {shared}/results/study")
    numpy = importlib.metadata.version("numpy")
    for part in (
        "; it cannot read shards: ",
        "; give --cache a folder that all nodes share",
        f"; it has numpy 1.0 (driver: {numpy}); install",
        f"; it has other source files in {ROOT}; ",
        f"; it does not have {shared}/mine/{own_folder.METRIC} as the driver has; ",
        "; it offers 2 GPUs of which torch sees 0; ",
        "; it has 1 MiB of shared memory for ",
    ):
        assert part in line
    assert not list((shared / "results" / "study").glob(".preflight*"))


def test_a_study_uses_nodes_that_join_and_survives_their_loss(cluster, shared):
    """It starts on two nodes; a third joins; one that cannot run trials ends it; the same command continues it."""
    shutil.rmtree(shared / "results" / "study", ignore_errors=True)
    study = Command(cluster, shared, "--trials", "100")  # far more than there will be time for
    study.until(hosts)
    joined = cluster.add()
    study.until(lambda trial: joined in hosts(trial))
    unfit = cluster.add(before=f"mount -t tmpfs none {shared}/results")
    said = study.wait(status=1)
    address = f"127.0.0.{unfit.removeprefix('node-')}"
    assert f"stopped: a node that joined cannot take part: {unfit} ({address}) does not see" in said
    cluster.kill(unfit)

    wanted = len(study.trials()) + 3
    study = Command(cluster, shared, "--trials", str(wanted))
    victim = study.until(lambda t: t.state.name == "RUNNING" and hosts(t)[-1:] == [joined] and 2 <= t.last_step < 4)
    cluster.kill(joined)
    study.wait(status=0)
    trials = study.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * wanted
    assert all(list(trial.intermediate_values) == list(range(1, REPORTS + 1)) for trial in trials)
    used = {host for trial in trials for host in hosts(trial)}
    assert used - {unfit} == {"node-1", "node-2", joined}, "a trial may begin on the unfit node before it is looked at"
    assert len(hosts(trials[victim.number])) > 1
    events = EventAccumulator(str(study.results / "trials" / f"trial_{victim.number:04d}")).Reload()
    steps = [point.step for point in events.Scalars("val/mIoU_fg")]
    assert steps.count(STEPS // REPORTS) == 1, "the trial began again from the start"


def test_findings_of_a_node_are_compared(shared, tmp_path):
    """The findings of this machine, unchanged and changed."""
    folder = StudyFolder(tmp_path)
    index = convert.prepare(spec.parse(DATA), cache=str(shared / "cache"))
    (tmp_path / "driver").write_text("token")
    ours = look(str(tmp_path), "token", "here", [index])
    assert ours.folder is None and ours.data == [] and (tmp_path / "here").read_text() == "token"
    assert ours.versions["python"] == ".".join(map(str, sys.version_info[:3])) and ours.gpus == 0
    row = {"Resources": {"CPU": 1.0, "GPU": 0.0, "object_store_memory": 100.0 * 2**20}}
    assert faults(ours, ours, row, needed=80 * 2**20, gpus=1) == []

    def only(theirs=ours, row=row, needed=0, gpus=1.0):
        (found,) = faults(theirs, ours, row, needed, gpus)
        return found

    (tmp_path / "blocked").mkdir()
    blocked = look(str(tmp_path), "token", "blocked", [])
    assert only(blocked).startswith(
        f"cannot write to {folder.path.parent} (Is a directory); let the user that runs Ray"
    )
    assert only(look(str(tmp_path), "another", "here", [])).startswith("does not see what the driver writes")
    other = look(str(tmp_path), "token", "here", [dataclasses.replace(index, fingerprint="other")])
    assert only(other).startswith(f"has other images in {index.folder} than the driver")
    older = dataclasses.replace(ours, versions={**ours.versions, "torch": "1.0", "ray": "2.0"})
    assert only(older).startswith("has ray 2.0 (driver: ") and "torch 1.0 (driver: " in only(older)
    mine = own_folder.write(tmp_path / "mine", own_folder.METRIC)
    having = look(str(tmp_path), "token", "here", [], [mine])
    assert faults(having, having, row, needed=0, gpus=1) == [] == faults(having, ours, row, needed=0, gpus=1)
    (mine / own_folder.METRIC).write_text("another state")
    for theirs in (look(str(tmp_path), "token", "here", [], [mine]), ours):
        (line,) = faults(theirs, having, row, needed=0, gpus=1)
        assert line.startswith(f"does not have {mine / own_folder.METRIC} as the driver has; put the folder of")
    assert faults(ours, ours, row, needed=81 * 2**20, gpus=1) == [], "it is read from files"
    cramped = dataclasses.replace(ours, shared_memory=90 * 2**20)
    large = int(81 * 2**20 / 0.8 * 1.05) / 2**20
    assert only(cramped, needed=81 * 2**20) == (
        f"has 90 MiB of shared memory for 81 MiB of shards; start its container with --shm-size {large:.0f}m or more"
    )
    head = {"Resources": {**row["Resources"], "CPU": 0.0}}
    assert faults(cramped, ours, head, needed=81 * 2**20, gpus=0) == []
    broken = {"Resources": {**row["Resources"], "GPU": 4.0}}
    assert only(row=broken).startswith("offers 4 GPUs of which torch sees 0; ")
    assert faults(ours, ours, broken, needed=0, gpus=0) == []  # none are asked for


def test_builds_for_other_devices_are_the_same_version():
    assert preflight._public({"torch": "2.13.0+cpu", "ray": "2.60.0"}) == {"torch": "2.13.0", "ray": "2.60.0"}
