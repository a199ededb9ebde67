"""What all tests share: one thread per process, one small Ray cluster, and whether there is a GPU."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Set before torch and ray are imported: one thread, because tests run in parallel, and no token authentication. Ray's
# workers are as important as the tests beside them, which are waited for too: by default they get what those leave.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ROOT = Path(__file__).resolve().parents[1]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give all tests that share a cluster to one xdist worker, so that the cluster is started once.

    Most tests marked ``ray`` share the cluster below; each other file has its own.
    """
    if item.get_closest_marker("ray"):
        shared = "ray_cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if shared else item.path.stem))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``gpu`` where no GPU is; ``-rs`` shows how many they are in one line."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no GPU here; {len(marked)} of the chosen tests need one"))


@pytest.fixture(autouse=True)
def _no_folder_stays() -> Iterator[None]:
    """Fail a test after which models or metrics of its own are found among ours, also by the tests that follow."""
    before = list(sys.path)
    yield
    new = [Path(entry) for entry in sys.path if entry not in [*before, str(ROOT)]]
    stays = [entry for entry in new if any((entry / name).is_dir() for name in ("trainables", "data", "search_spaces"))]
    assert not stays, f"{stays} is on the path; use tests.own_folder.kept_out"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray cluster of two CPUs and 400 MB of object store, shared by the tests of this process."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        object_store_memory=400 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()
