"""Real studies on the GPU, by the command line that a user types, and what they leave behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from tests.gpu import trials
from tests.gpu.rows import Rows, Setting, each, setting
from tests.trainables import scenes
from trainables import checkpoint
from trainables.training import Task, Training

ROOT = Path(__file__).resolve().parents[2]
STEPS = 100
TOO_MANY = 16384
"""Images a step that fit on no card: SPACE at 128x128 takes more than 10 MB each."""


def main() -> None:
    """Run the studies one after the other; a row each."""
    given = setting()
    place = given.rows.parent
    each(
        ("fp32, two trials on the GPU", "out of memory", "continued on the CPU", "continued on the GPU", "bf16"),
        Rows(given.rows),
        given.until,
        lambda what: {
            "fp32, two trials on the GPU": lambda: tuned(given, "shared", "--trials", "4", *share(given)),
            "bf16": lambda: tuned(given, "bf16", "--trials", "2", "--precision", "bf16", *share(given)),
            "out of memory": lambda: out_of_memory(given),
            "continued on the CPU": lambda: continued(place / "results" / "shared", torch.device("cpu"), given),
            "continued on the GPU": lambda: continued(place / "results" / "shared", torch.device(given.device), given),
        }[what](),
    )


def share(given: Setting) -> tuple[str, ...]:
    """Two trials at a time."""
    return ("--concurrent", "2", "--gpus", "0" if given.small else "0.5")


def command(given: Setting, name: str, *flags: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """What the study ``name`` of SPACE said, and its seconds. The scenes are drawn once for all."""
    size = trials.SIZES[given.device]
    results, cache = given.rows.parent / "results", given.rows.parent / "cache"
    asked = ["--model", "space", "--data", f"synthetic-({size},{size})", "--preset", "tiny" if given.small else "paper"]
    asked += ["--steps", "20" if given.small else str(STEPS), "--reports", "2" if given.small else "4"]
    asked += ["--pruner", "none", "--validation-images", "32" if given.small else "200", "--name", name]
    asked += ["--results", str(results), "--cache", str(cache), "--finalists", "1", "--seeds", "1"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "study/run.py", *asked, *flags], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
    )
    print(done.stdout, done.stderr, flush=True)
    return done, time.monotonic() - started


def tuned(given: Setting, name: str, *flags: str) -> dict[str, Any]:
    """A study that must run to its end, report and exported weights included."""
    done, seconds = command(given, name, *flags)
    folder = given.rows.parent / "results" / name
    trials_there = pq.read_table(folder / "trials.parquet").to_pylist()
    complete = [row for row in trials_there if row["state"] == "COMPLETE"]
    left = [file for file in ("report.html", "best.json", "evaluation.parquet") if not (folder / file).is_file()]
    assert done.returncode == 0, f"status {done.returncode}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
    assert complete and not left, f"{len(complete)} complete trials; missing: {left}"
    overlap = any(
        a["start"] < b["complete"] and b["start"] < a["complete"] for a in complete for b in complete if a is not b
    )
    figures = {
        "s": seconds,
        "complete": len(complete),
        "best mIoU_fg": max(row["value"] for row in complete),
        "s a trial": sum(row["seconds"] for row in complete) / len(complete),
        "GiB a trial": max((row["gpu_gib"] or 0.0) for row in complete),
        "at the same time": overlap,
        "reasons": sorted({row["reason"] for row in trials_there if row["reason"]}),
    }
    return figures if given.small or figures["GiB a trial"] > 0 else {**figures, "verdict": "not on the GPU"}


def out_of_memory(given: Setting) -> dict[str, Any]:
    """A trial whose batch fits on no card ends with its reason in trials.parquet."""
    if given.small:
        return {"verdict": "skipped", "note": "needs a GPU"}
    done, seconds = command(given, "too-large", "--trials", "1", "--set", f"batch_size={TOO_MANY}", "--gpus", "1")
    rows = pq.read_table(given.rows.parent / "results" / "too-large" / "trials.parquet").to_pylist()
    reasons = [row["reason"] for row in rows]
    met = [row["state"] for row in rows] == ["FAIL"] and str(reasons[0]).startswith("out of memory")
    return {"s": seconds, "verdict": "ok" if met else "no reason", "reason": reasons[0], "exit": done.returncode}


def continued(folder: Path, device: torch.device, given: Setting) -> dict[str, Any]:
    """The newest checkpoint of the study in ``folder`` trains on, on ``device``."""
    state = checkpoint.newest(folder)
    assert state is not None, f"no checkpoint in {folder}"
    config = json.loads((folder / "study.json").read_text())["config"]
    task = Task("space", state["image_size"], config["steps"], config["reports"], 0, "mIoU_fg")
    trial = Training(task, state["hyperparameters"], 0, scenes.split(64, state["image_size"]), device)
    trial.load_state(state)
    started = time.monotonic()
    terms = trial.advance(2)
    return {"from": state["device"], "step": trial.step, "loss": terms["loss"], "s": time.monotonic() - started}


if __name__ == "__main__":
    main()
