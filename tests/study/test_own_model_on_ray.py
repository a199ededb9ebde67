"""A model, a metric and a data set of one's own, in a folder that --plugins names: CONTRIBUTING.md's examples."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.results_folder import ROOT
from tests import own_folder

SQUARES = "data/sources/squares.py"


def clevrtune(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from clevrtune import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.ray
def test_a_study_of_a_model_a_metric_and_scenes_that_lie_outside_the_checkout(tmp_path: Path) -> None:
    mine = own_folder.write(tmp_path / "mine", *own_folder.MODEL, own_folder.METRIC, SQUARES)
    for name in ("data.py", "study.py"):  # workers look in the working directory first
        (tmp_path / name).write_text(f"raise SystemExit('a person's own {name}')")
    flags = "--model colour_field --data squares --plugins mine --metric coverage --name own"
    more = "--trials 1 --steps 6 --reports 3 --seeds 1 --results results --cache cache"
    run = clevrtune(tmp_path, "run", *flags.split(), *more.split())
    assert "coverage" in run.stdout and "base on test" in run.stdout
    study = tmp_path / "results" / "own"
    table = pq.read_table(study / "evaluation.parquet").to_pandas()
    assert {"trial_0000", "base"} & set(table["entry"]) and table["coverage"].between(0, 1).all()
    background, best = (json.loads((study / name).read_text()) for name in ("study.json", "best.json"))
    assert background["direction"] == "max" and background["plugins"] == str(mine) and best["metric"] == "coverage"
    assert table.groupby("entry")["coverage"].mean()["baseline_background"] == 0
    assert "<th" in (study / "report.html").read_text() and ">coverage<" in (study / "report.html").read_text()

    # without the flag: the record of the study names the folder
    clevrtune(tmp_path, "report", "results/own")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "black.png")
    clevrtune(tmp_path, "predict", "results/own", "black.png", "--out", "segments")
    assert (tmp_path / "segments" / "black_labels.png").is_file()
