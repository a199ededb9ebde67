"""All nodes of a cluster convert, those that share the folders; one is killed meanwhile."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import conversion, writing
from data.convert import prepare
from data.spec import parse
from tests.data.held_conversion import SHARD_BYTES
from tests.study.cluster import virtual_nodes
from tests.study.cluster.virtual_nodes import ENVIRONMENT, ROOT, virtual_cluster

pytestmark = pytest.mark.ray

SCENES = Path(__file__).parent / "clevrtex"
SPEC = parse("clevrtex:full-crop-(32,32)")


@pytest.mark.skipif(not virtual_nodes.available(), reason="needs unshare, as root or with user namespaces")
def test_nodes_that_share_the_folders_convert_and_one_is_lost(tmp_path, monkeypatch):
    go, cache = tmp_path / "go", tmp_path / "cache"
    cache.mkdir()
    with virtual_cluster() as cluster:
        lost = cluster.add()
        cluster.add(before=f"mount -t tmpfs none {cache}")  # a disk of its own there
        command = [sys.executable, "-m", "tests.data.held_conversion", go, SPEC, "--data-root", SCENES]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [*map(str, command), "--cache", str(cache), "--address", cluster.address],
                env=ENVIRONMENT,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + 200
            while len(list(cache.glob("*.part/*.record"))) < 4:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
            cluster.kill(lost)
            go.touch()
            assert process.wait(200) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
    said = (tmp_path / "log").read_text()
    assert "2 of 3 nodes convert; the others see other files" in said
    assert (tmp_path / "go.node-1").exists() and not (tmp_path / "go.node-3").exists()
    assert (tmp_path / f"go.{lost}").exists()
    folder = Path(said.splitlines()[-1])
    monkeypatch.setattr(conversion, "FEW", 99)
    monkeypatch.setattr(writing, "SHARD_BYTES", SHARD_BYTES)
    alone = prepare(SPEC, root=str(SCENES), cache=str(tmp_path / "one"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in Path(alone.folder).iterdir()
    }
