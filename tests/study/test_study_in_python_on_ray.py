"""``from study import Study``: the notebook of docs/ from its first cell to its last, in one real process."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study.results_folder import ROOT, StudyFolder

NOTEBOOK = ROOT / "docs" / "tour.ipynb"

RUN = """
import ast, json, sys
import study
assert not {"torch", "ray", "optuna"} & set(sys.modules), "importing study is light"
names = {}
for number, cell in enumerate(json.loads(sys.stdin.read())["cells"]):
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    print(f"--- cell {number}", flush=True)
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:  # a notebook shows it
        print(repr(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)), flush=True)
import ray
assert not ray.is_initialized(), "Ray is left"
"""


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_shows_what_its_cells_print_and_no_machine():
    shown = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert len(shown) > 6 and all(cell["outputs"] for cell in shown if "Study" in "".join(cell["source"]))
    outputs = json.dumps([cell.get("outputs") for cell in cells()])
    assert not re.search(r"/(tmp|home|root|work)/", outputs) and "Traceback" not in outputs
    assert "\\u001b" not in outputs, "progress in a notebook is plain lines"


def executed(place: Path) -> dict[str, str]:
    """Source of a cell -> what it prints, run in a kernel where one is installed, else in a plain process."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(place)}  # the cache for shards is at home
    if importlib.util.find_spec("nbclient") is not None and importlib.util.find_spec("ipykernel") is not None:
        import nbclient
        import nbformat

        notebook = nbformat.read(NOTEBOOK, 4)
        client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(place)}})
        client.execute(env=environment)
        return {cell["source"]: shown(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=NOTEBOOK.read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        cwd=place,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(r"^--- cell (\d+)\n(.*?)(?=^--- cell|\Z)", done.stdout, re.DOTALL | re.MULTILINE)
    return {"".join(cells()[int(number)]["source"]): text for number, text in said}


def shown(cell: dict) -> str:
    """The text below a cell."""
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell["outputs"]]
    return "".join(f"{''.join(text).rstrip()}\n" for text in texts)


@pytest.mark.ray
def test_every_cell_of_the_notebook_runs(tmp_path: Path):
    by_source = executed(tmp_path)
    everything = "".join(by_source.values())
    assert "\x1b" not in everything and "\r" not in everything, "progress is plain lines"
    folder = tmp_path / "results" / "tour"
    assert (folder / "report.html").is_file() and not StudyFolder(folder).is_running()

    def printed(part: str) -> str:
        (text,) = (text for source, text in by_source.items() if part in source)
        return text

    assert re.search(r"^ *0 ", printed("params_lr"), re.MULTILINE) and "COMPLETE" in printed("params_lr")
    assert printed("trials=4").endswith("\n4\n")
    assert printed("trials=2").startswith("slot_attention on "), "nothing is cleared"
    assert "2/2 trials" in printed("trials=2") and "4/4 trials" in printed("trials=4")
    best = json.loads((folder / "best.json").read_text())
    assert printed("best.hyperparameters").splitlines()[-1] == repr(best["hyperparameters"]["lr"])
    assert "torch.Size([2, 1, 32, 32])" in printed("argmax") and "report.html" in printed("report.name")
    assert "seed is 0 there and 1 here" in printed("seed=1")
    command = json.loads((folder / "study.json").read_text())["sessions"][-1]["command"]
    assert command in ("python -c", "Study.run in a notebook")
