"""Submission: what is refused, what travels, and real jobs on a real head with token authentication."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray._private import ray_constants

from data.held_ports import held_ports
from study import results_folder, submit
from study.cluster import job_package

ROOT = results_folder.ROOT


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model space", "give them after --"),
        ("--adress http://head:8265 -- --model space", "--adress. Did you mean --address?"),
        ("http://head:8265 -- --model space", "Unused Tokens: ['http://head:8265']"),
        ("-- --model space --tirals 3", "--tirals. Did you mean --trials?"),
        ("--address ray://head:10001 -- --model space --results /r", "http://HEAD:8265"),
        ("-- --model spcae --results /r", "did you mean space"),
        ("-- --model space --results /r --trials 0", "--trials is 0"),
        ("-- --model space", "--results results is relative"),
        ("-- --model space --results /r --cache shards", "--cache shards is relative"),
        ("-- --model space --results /r --data-root ../clevrtex", "--data-root ../clevrtex is relative"),
        ("-- --model space --results /r --from results/other", "--from results/other is relative"),
        ("-- --model space --results /r --space ranges.yaml", "--space ranges.yaml is relative"),
        ("-- --model space --results /r --space=mine.py", "--space mine.py is relative"),
        ("-- --model space --results /r --data-root s3://bucket/clevrtex", "then give that --cache alone"),
        ("-- --model space --results /r --data s3://bucket/clevrtex", "--cache is where its shards lie"),
        ("--address head:8265 -- --model space --results /r", "http://head:8265"),
        ("-- --model space --results /r --storage sqlite:///study.db", "four slashes"),
        ("-- --model space --results /r --storage postgresql://u:secret@db/x", "set CLEVRTUNE_STORAGE_PASSWORD"),
        ("-- --model space --results /r --cache s3://b/x?access_key=secret", "set AWS_ACCESS_KEY_ID"),
        ("-- --model space --results /r --address auto", "give it before --"),
        ("--address http://127.0.0.1:1 -- --model space --results /r", "it is http://HEAD:8265"),
    ],
)
def test_what_cannot_be_a_job_is_refused_in_one_line(line, says, capsys, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert submit.main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert says in printed.err and "secret" not in printed.err


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


CODE = {"setup.cfg", "constraints.txt", "data/spec.py", "search_spaces/space.py", "study/run.py"}
CODE |= {"trainables/space/__init__.py", "trainables/space/weights.pt"}


def test_code_travels_and_data_and_results_do_not(tmp_path):
    write(tmp_path, *CODE)
    write(tmp_path, "data/clevrtex_full/0/full_000000.png", "data/shards/train-0.arrow", "data/__pycache__/spec.pyc")
    (tmp_path / "study/.#run.py").symlink_to("nobody@nowhere")  # an editor has the file open
    write(
        tmp_path, "results/space/study.json", "study/results/space/best.json", ".git/HEAD", ".venv/x.py", "clevr/x.png"
    )
    assert {str(path.relative_to(tmp_path)) for path in job_package.files(tmp_path)} == CODE


def test_every_module_of_this_checkout_travels():
    travels = set(job_package.files())
    code = {path for package in results_folder.PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert code <= travels and ROOT / "data" / "__init__.py" in code
    assert all(path.is_file() for path in travels)


def test_a_package_that_ray_would_not_take_is_refused_with_the_largest_folder(tmp_path):
    assert job_package.LARGEST_PACKAGE == ray_constants.DASHBOARD_CLIENT_MAX_SIZE
    write(tmp_path, *CODE)
    os.truncate(tmp_path / "trainables/space/weights.pt", 2 * job_package.LARGEST_PACKAGE)
    with pytest.raises(ValueError, match=r"folders: trainables/space/ 200\.0 MiB") as caught:
        job_package.write(tmp_path / "package.zip", tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "package.zip").exists()


def test_files_of_plugins_travel_among_ours_and_the_flag_stays_at_home(tmp_path):
    write(tmp_path / "code", *CODE)
    mine = "trainables/own.py", "trainables/large/__init__.py", "trainables/large/part.py", "search_spaces/own.py"
    write(tmp_path / "mine", *mine, "notes.txt", "trainables/__pycache__/own.pyc", "data/pictures/0.png")
    job_package.write(tmp_path / "package.zip", tmp_path / "code", own=str(tmp_path / "mine"))
    assert set(ZipFile(tmp_path / "package.zip").namelist()) == CODE | set(mine)
    environment = job_package.runtime_env(tmp_path / "package.zip", pip=False, own="/home/me/mine")["env_vars"]
    assert environment["CLEVRTUNE_PLUGINS"] == "/home/me/mine"
    assert "CLEVRTUNE_PLUGINS" not in job_package.runtime_env(tmp_path / "package.zip", pip=False)["env_vars"]
    for flag in (["--plugins", "mine"], ["--plugins=mine"]):
        flags = ["--model", "own", *flag, "--trials", "3"]
        assert submit._without(flags, "--plugins") == ["--model", "own", "--trials", "3"]


def test_pip_installs_the_pinned_dependencies_and_leaves_ray_alone():
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = job_package.requirements()
    assert set(wanted) <= set(pinned)
    names = {line.split("==")[0] for line in wanted}
    assert {"torch", "numpy", "optuna", "pyarrow", "scipy"} <= names and "ray" not in names


def test_what_log_names_travels_and_is_asked_for(tmp_path):
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("wandb==")]
    assert set(job_package.requirements(log=["wandb"])) - set(job_package.requirements()) == set(pinned) != set()
    environment = job_package.runtime_env(tmp_path / "package.zip", pip=True, log=["wandb", "mlflow"])
    assert {"wandb", "mlflow"} <= {line.partition("==")[0] for line in environment["pip"]["packages"]}
    assert set(job_package.needed(["mlflow"])) - set(job_package.needed()) == {"mlflow"}
    (named,) = set(job_package.requirements(tmp_path, ["mlflow"])) - set(job_package.requirements(tmp_path))
    assert re.fullmatch(r"mlflow(==|>=)[\d.]+", named), "without a checkout, installed or not"


def test_without_a_checkout_the_installed_versions_are_asked_for(tmp_path):
    wanted = job_package.requirements(tmp_path)
    assert {line.split("==")[0] for line in wanted} == set(job_package.needed()) - {"ray"}
    assert f"optuna=={optuna.__version__}" in wanted
    write(tmp_path, *CODE - {"setup.cfg", "constraints.txt"})
    assert {path.name for path in job_package.files(tmp_path)} == {Path(path).name for path in CODE} - {
        "setup.cfg",
        "constraints.txt",
    }


class Line(socketserver.ThreadingTCPServer):
    """A line to ``target`` that can be cut: the network between a laptop and a cluster."""

    daemon_threads = True

    def __init__(self, target: int):
        super().__init__(("127.0.0.1", 0), None)
        self.target, self.open, self.up = target, set(), True
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address):
        if not self.up:
            return
        with socket.create_connection(("127.0.0.1", self.target)) as other:
            self.open |= {request, other}
            back = threading.Thread(target=pump, args=(other, request), daemon=True)
            back.start()
            pump(request, other)
            back.join()
            self.open -= {request, other}

    def cut(self) -> None:
        self.up = False
        for end in list(self.open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Head:
    """A Ray head on loopback that wants a token."""

    dashboard: int
    gcs: int
    folder: Path
    environment: dict[str, str]

    def submit(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=600,
        )

    def follow(self, *arguments: str) -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, cwd="/", stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def shell(self, line: str) -> str:
        """What a line that submit.py printed says when a person runs it."""
        done = subprocess.run(["sh", "-c", line], env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done
        return done.stdout + done.stderr

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "study" / "submit.py"), *arguments]

    def study(self, name: str, *more: str) -> list[str]:
        where = ["--results", str(self.folder / "results"), "--cache", str(self.folder / "cache"), "--name", name]
        small = ["--data", "synthetic:plain-(32,32)", "--validation-images", "40", "--reports", "5", "--seeds", "1"]
        return ["--", "--model", "slot_attention", *small, *where, *more]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    (gcs, dashboard, *others), held = held_ports(5)
    flags = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    temporary = tempfile.mkdtemp(prefix="clv", dir="/tmp")  # short, for the sockets in it
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path_factory.mktemp("home")),  # where nobody's token lies
        "RAY_AUTH_TOKEN": "a-token-for-this-test-alone",
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path_factory.mktemp("head") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                *("ray", "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=300000000"),
                *("--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={temporary}"),
                *(f"--port={gcs}", f"--dashboard-port={dashboard}"),
                *(f"--{flag}={port}" for flag, port in zip(flags, others, strict=True)),
            ],
            env={**environment, "RAY_AUTH_MODE": "token"},
            cwd="/",
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Head(dashboard, gcs, tmp_path_factory.mktemp("shared"), environment)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)
        for holder in held:
            holder.close()


def wait_for(condition: Callable[[], object], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def read_until(process: subprocess.Popen, text: str) -> str:
    """What ``process`` prints up to the line with ``text``."""
    said = ""
    while text not in said:
        line = process.stdout.readline()
        assert line, f"it ended without {text!r}: {said}"
        said += line
    return said


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name=folder.name, storage=storage).get_trials()


@pytest.mark.ray
def test_a_job_is_followed_over_a_broken_line_stopped_and_resumed_by_the_same_command(head):
    line = Line(head.dashboard)
    name = "it's $HOME"  # quoting: the entrypoint goes through a shell
    study = head.study(name, "--steps", "20", "--pruner", "none", "--set", "lr=0.001", "--trials")
    folder = head.folder / "results" / name
    follower = head.follow("--address", f"http://127.0.0.1:{line.server_address[1]}", "--follow", *study, "50")
    try:
        wait_for(lambda: list(folder.glob("trials/trial_*/checkpoint_*")) or follower.poll() is not None)
        line.cut()
        refused = head.submit("--address", f"http://127.0.0.1:{head.dashboard}", *study, "50")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
        assert "this study is being run by job it-s-HOME-1" in refused.stderr
        line.up = True
        said = read_until(follower, "connected again")
        (stop,) = [line.split(":", 1)[1] for line in said.splitlines() if line.startswith("stop:")]
        head.shell(stop)
        said += follower.communicate(timeout=600)[0]
    finally:
        follower.kill()
    assert follower.returncode == 130, said
    assert said.count("no answer from") == said.count("connected again") == 1
    assert said.count("Running entrypoint") == said.count("watch: ") == 1, "a line was printed twice or not at all"
    assert "interrupted: nothing is lost" in said and "it-s-HOME-1: STOPPED; the same command goes on" in said

    left = trials(folder)
    assert "RUNNING" in [trial.state.name for trial in left]
    again = head.submit("--address", "auto", "--follow", *study, str(len(left)), RAY_ADDRESS=f"127.0.0.1:{head.gcs}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "job it-s-HOME-2: SUCCEEDED" in again.stdout
    ended = trials(folder)
    assert [trial.state.name for trial in ended] == ["COMPLETE"] * len(left)
    assert all(after.params == before.params for after, before in zip(ended, left, strict=True))
    record = json.loads((folder / "study.json").read_text())
    assert len(record["timing"]["sessions"]) == 2 and len(record["sessions"]) == 2
    assert {session["git"] for session in record["sessions"]} == {results_folder.git_revision()}
    assert (folder / "report.html").exists()


@pytest.mark.ray
def test_a_job_that_fails_on_the_cluster_passes_its_status_on(head):
    study = head.study("absent", "--data", "clevrtex:full", "--data-root", "/nowhere")
    failed = head.submit("--address", f"http://127.0.0.1:{head.dashboard}", "--follow", *study)
    assert failed.returncode == 2 and failed.stderr == "", failed.stderr
    assert "error: " in failed.stdout and "/nowhere" in failed.stdout
    assert failed.stdout.endswith("job absent-1: FAILED\n")


@pytest.mark.ray
def test_a_python_without_the_packages_is_named_before_the_job_is_sent(head):
    address = f"http://127.0.0.1:{head.dashboard}"
    code = f"""
from study import submit
from study.cluster import job_package, job_python

submit.use_token()
client = submit.connect({address!r})
job_python.refuse_bare(client, job_package.needed())
try:
    job_python.refuse_bare(client, ["ray", "no-such-package"])
except ValueError as error:
    print(error)
print([job.submission_id for job in client.list_jobs() if "looks-for-packages" in job.submission_id])
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=head.environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    said, jobs = run.stdout.splitlines()
    assert "python lacks no-such-package (" in said and address in said and jobs == "[]"
    assert "--pip" in said and "Dockerfile" in said and "activate" in said


@pytest.mark.ray
def test_ctrl_c_leaves_the_job_running_and_says_so(head):
    address = f"http://127.0.0.1:{head.dashboard}"
    follower = head.follow("--address", address, "--follow", *head.study("dry", "--dry-run"))
    said = read_until(follower, "Running entrypoint")
    follower.send_signal(signal.SIGINT)
    said += follower.communicate(timeout=600)[0]
    assert follower.returncode == 130 and "no longer following; job dry-1 goes on" in said
    printed = dict(line.split(":", 1) for line in said.splitlines() if line.startswith(("status:", "logs:", "stop:")))
    assert any(state in head.shell(printed["status"]) for state in ("PENDING", "RUNNING", "succeeded"))
    head.shell(printed["stop"])
    assert "Running entrypoint for job dry-1: python study/run.py" in head.shell(printed["logs"])


@pytest.mark.ray
@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_the_clusters_token_nothing_is_sent(head, token):
    environment = {**head.environment, "RAY_AUTH_TOKEN": token}
    if not token:
        del environment["RAY_AUTH_TOKEN"]
    command = head.command("--address", f"http://127.0.0.1:{head.dashboard}", *head.study("secret"))
    refused = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and "set RAY_AUTH_TOKEN" in refused.stderr
