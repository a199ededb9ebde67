import shutil
from pathlib import Path

import pytest

from tests.study import results


@pytest.fixture(scope="session")
def finished_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a study that went through all stages; not to be changed."""
    path = tmp_path_factory.mktemp("results") / "space-synthetic-tiny"
    results.write_finished(path)
    return path


@pytest.fixture
def results_folder(finished_results: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(finished_results, tmp_path / finished_results.name))
