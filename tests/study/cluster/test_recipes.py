"""The recipes in study/cluster/recipes/, checked with the schemas and parsers of the tools that read them."""

import copy
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.symmetric_run import symmetric_run

from study import command_line, submit
from study.cluster import job_package
from study.results_folder import PACKAGES, ROOT
from tests.test_packaging import pythons

RECIPES = ROOT / "study" / "cluster" / "recipes"
SCHEMA = json.loads((ROOT / "tests" / "data" / "rayjob_schema.json").read_text())


def pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    (version,) = [line.split("==")[1] for line in lines if line.startswith(f"{package}==")]
    return version


def recipe(name: str) -> dict:
    return yaml.safe_load((RECIPES / name).read_text())


def set_at(document: dict, path: str, value: object) -> dict:
    changed = copy.deepcopy(document)
    *parents, last = path.split(".")
    place = changed
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return changed


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_the_cluster_launcher_accepts_the_recipe_and_rejects_misspelt_ones(name):
    asked = recipe(name)
    prepared = prepare_config(copy.deepcopy(asked))
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "gpu"}  # the launcher's own defaults are gone
    assert prepared["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert all(
        "RAY_AUTH_MODE=token ray start" in prepared[f"{node}_start_ray_commands"][1] for node in ("head", "worker")
    )
    for path in ("idle_timeout_minute", "docker.imgae", "available_node_types.gpu.min_worker"):
        with pytest.raises(jsonschema.ValidationError):
            validate_config(prepare_config(set_at(asked, path, 1)))


def test_kuberay_accepts_the_recipe_and_rejects_misspelt_ones():
    job = recipe("rayjob.yaml")
    jsonschema.validate(job, SCHEMA)
    cluster = "spec.rayClusterSpec"
    for path, value in {
        "spec.entryPoint": "python",
        "spec.backoffLimit": "3",
        f"{cluster}.authOptions.mode": "tokens",
        f"{cluster}.headGroupSpec.rayStartParams.num-cpus": 0,
        f"{cluster}.workerGroupSpecs.0.maxReplica": 8,
        f"{cluster}.workerGroupSpecs.0.template.spec.containers.0.volumeMount": [],
    }.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(set_at(job, path, value), SCHEMA)


def test_the_rayjob_runs_a_study_that_exists_and_keeps_its_results():
    spec = recipe("rayjob.yaml")["spec"]
    python, script, *flags = shlex.split(spec["entrypoint"])
    (study,) = command_line.studies([flag for flag in flags if flag not in ("--address", "auto")])
    submit.refuse_what_a_job_would_lose(study)
    assert (python, Path(script).name, study.preset) == ("python", "run.py", "paper")
    environment = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert environment == {"RAY_JOB_STOP_WAIT_TIME_S": str(job_package.STOP_SECONDS)}
    for group in (spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        (volume,) = group["template"]["spec"]["volumes"]
        assert study.results.startswith(mounts[volume["name"]] + "/")


def instructions() -> list[list[str]]:
    """The Dockerfile's instructions, each as its words."""
    text = (RECIPES / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_every_recipe_has_the_ray_version_of_the_constraints():
    ((_, image),) = [words for words in instructions() if words[0] == "FROM"]
    assert image == f"rayproject/ray:{pinned('ray')}-py{pythons()[0].replace('.', '')}"
    assert recipe("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")


def test_what_the_dockerfile_copies_can_be_installed(tmp_path):
    """Copies what its COPY lines name, then runs its RUN line without downloads."""
    for words in instructions():
        if words[0] == "COPY":
            *sources, target = words[2:]
            assert words[1] == "--chown=ray:users"
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, tmp_path / target)
    _, run = [words[1:] for words in instructions() if words[0] == "RUN"]
    assert run[:2] == ["pip", "install"]
    dry = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([sys.executable, "-m", *run, *dry], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Would install clevrtune" in done.stdout, done.stderr
    assert all((tmp_path / package / "__init__.py").exists() for package in PACKAGES)


def test_the_slurm_script_starts_the_study_on_the_first_node_of_a_cluster_of_all(tmp_path):
    """Runs the script with Slurm's variables and with stand-ins for the programs that only Slurm has."""
    tools, checkout = tmp_path / "bin", tmp_path / "a checkout"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "activate").write_text("activated=yes\n")
    tools.mkdir()
    stand_ins = {
        "scontrol": '[ "$*" = "show hostnames gpu[07-09]" ] && printf "gpu07\\ngpu08\\ngpu09\\n"',
        "srun": 'printf "%s\\0" "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" "$@" > "$SLURM_SUBMIT_DIR/srun"',
        "python": f'exec {shlex.quote(sys.executable)} "$@"',
    }
    for name, script in stand_ins.items():
        (tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (tools / name).chmod(0o755)
    flags = [
        "--model",
        "space",
        "--data",
        "clevrtex:full-crop-(128,128)",
        "--data-root",
        "/clevrtex",
        "--hours",
        "23.5",
    ]
    subprocess.run(
        ["bash", str(RECIPES / "slurm.sh"), *flags],
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(checkout),
            "SLURM_JOB_ID": "123456",
            "SLURM_JOB_NODELIST": "gpu[07-09]",
            "SLURM_JOB_NUM_NODES": "3",
        },
        check=True,
        timeout=60,
    )
    mode, token, *command = (checkout / "srun").read_text().rstrip("\0").split("\0")
    assert mode == "token" and len(token) == 64
    start = command.index("symmetric-run")
    split = command.index("--")
    parsed = symmetric_run.make_context("symmetric-run", command[start + 1 : split], resilient_parsing=True).params
    assert (parsed["address"], parsed["min_nodes"], parsed["ray_args_and_entrypoint"]) == ("gpu07:23456", 3, ())
    python, script, *given = command[split + 1 :]
    (study,) = command_line.studies(given)
    assert (python, script) == ("python", str(checkout / "study" / "run.py"))
    assert (study.address, study.hours, study.data) == ("auto", 23.5, "clevrtex:full-crop-(128,128)")
    assert (study.results, study.cache) == (str(checkout / "results"), str(checkout / "cache"))


def test_slurm_reads_all_directives():
    """Slurm reads directives up to the first command only."""
    lines = (RECIPES / "slurm.sh").read_text().splitlines()
    directives = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    commands = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    assert len(directives) == 7 and max(directives) < min(commands)
