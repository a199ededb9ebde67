"""Send a study to a Ray cluster as a job: ``python study/submit.py --address http://HEAD:8265 -- --model space``."""

import asyncio
import itertools
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cyclopts import Parameter

from data import places
from data.ray_session import NEEDS_TOKEN
from study import command_line
from study.cluster import job_package, job_python
from study.config import StudyConfig
from study.display.error_lines import first_line, last_line
from study.search.storage_url import PASSWORD_FROM, StorageURL

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

SILENCE_SECONDS, RETRY_SECONDS, PATIENCE_SECONDS = 60.0, 5.0, 900.0
"""When --follow reconnects to a silent log, how often it tries a server that does not answer, and for how long."""

NEEDS_JOBS = "submitting jobs needs packages that are missing here: pip install 'clevrtune[cluster]'"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of this command; those of the study come after ``--``."""

    address: Annotated[str, Parameter(env_var="RAY_API_SERVER_ADDRESS")] = "auto"
    """the cluster's job server, http://HEAD:8265, or auto on a node of the cluster"""
    follow: bool = False
    """print the job's output until it ends, and end with its status"""
    pip: bool = False
    """let each node install the packages of setup.cfg; without it, the cluster's image has them"""

    def __post_init__(self) -> None:
        if self.address.startswith("ray://"):
            raise ValueError(
                f"--address {self.address}: that is Ray Client; give the cluster's job server, e.g. http://HEAD:8265"
            )
        if "://" not in self.address and self.address != "auto":
            raise ValueError(f"--address {self.address}: give the job server's URL, http://{self.address}, or auto")


def from_command_line(arguments: Sequence[str]) -> tuple[Flags, list[StudyConfig], list[str]]:
    """This command's flags, the studies that are asked for, and their flags as they were given.

    Raises ValueError for bad syntax, and for a study that cannot be, or cannot be as a job.
    """
    own = list(arguments)
    split = own.index("--") if "--" in own else len(own)
    if split == len(own) and not {"--help", "-h"} & set(own):
        raise ValueError("the study's flags are missing; give them after --, e.g. -- --model space --trials 50")
    asked = command_line.parse(
        Flags,
        own[:split],
        verb="study/submit.py",
        usage="[OPTIONS] -- FLAGS OF study/run.py",
        description="Run a study as a job on a Ray cluster. The same command again continues a study that ended early.",
        more="RAY_AUTH_TOKEN holds the cluster's token, if it wants one, and RAY_JOB_HEADERS further HTTP headers as "
        "JSON, as for `ray job submit`.",
    )
    flags = own[split + 1 :]
    refuse_relative("space", [path for path in _given(flags, "--space") if path.endswith((".py", ".yaml", ".yml"))])
    studies = command_line.studies(flags)
    refuse_what_a_job_would_lose(studies[0])  # they differ in their models and names only
    return asked, studies, flags


def refuse_what_a_job_would_lose(study: StudyConfig) -> None:
    """Raise ValueError for paths in the job's temporary folder, which are lost with it, and for an address."""
    if study.address is not None:
        raise ValueError(f"--address {study.address} after --: the study runs where the job does; give it before --")
    refuse_relative("results", [study.results])
    refuse_relative("cache", [study.cache])
    refuse_relative("data-root", [study.data_root])
    refuse_relative("from", study.from_)
    if places.shown(study.cache or "") != (study.cache or ""):
        raise ValueError(
            f"--cache {places.shown(str(study.cache))} has keys, which all who list the cluster's jobs could read; "
            "leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on the cluster's nodes"
        )
    if re.match(r"sqlite:///[^/]", study.storage or ""):
        raise ValueError(f"--storage {study.storage} is relative; write an absolute path after four slashes")
    if study.storage is not None and StorageURL(study.storage).secret != study.storage:
        raise ValueError(
            f"--storage {study.storage} has a password, which all who list the cluster's jobs could read; "
            f"leave it out, and set {PASSWORD_FROM} in the environment of the cluster's nodes"
        )


def refuse_relative(flag: str, paths: Sequence[str | None]) -> None:
    """Raise ValueError for a relative path among ``paths``, the values of ``--flag``."""
    for path in paths:
        if path is not None and "://" not in path and not Path(path).is_absolute():
            raise ValueError(
                f"--{flag} {path} is relative, and a job runs in a temporary folder on the cluster; "
                f"give a path that its nodes share after --, e.g. --{flag} /shared/clevrtune/{Path(path).name}"
            )


def _given(flags: Sequence[str], flag: str) -> list[str]:
    """The values of ``flag``, as they were typed."""
    apart = [value for before, value in itertools.pairwise(flags) if before == flag]
    return apart + [word.removeprefix(f"{flag}=") for word in flags if word.startswith(f"{flag}=")]


def _without(flags: Sequence[str], flag: str) -> list[str]:
    """``flags`` without ``flag`` and its value."""
    before = ["", *flags]
    return [word for one, word in zip(before, flags, strict=False) if flag not in (one, word, word.partition("=")[0])]


def connect(address: str) -> "JobSubmissionClient":
    """A client of the job server at ``address``. Raises ValueError if it does not answer or refuses us."""
    # Explicit flags win here; Ray's own order of precedence is the other way round.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        from ray.exceptions import AuthenticationError, RayError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ValueError(NEEDS_JOBS) from error
    try:
        headers = json.loads(os.environ.get("RAY_JOB_HEADERS", "{}"))
        if not isinstance(headers, dict):
            raise ValueError
    except ValueError as error:
        raise ValueError('RAY_JOB_HEADERS is no JSON object; write it as {"Name": "value"}') from error
    try:
        return JobSubmissionClient(headers=headers)
    except AuthenticationError as error:
        raise ValueError(f"--address {address}: {first_line(error)}; {NEEDS_TOKEN}") from error
    except (OSError, RuntimeError, ValueError, RayError) as error:
        if "ray[default]" in str(error):
            raise ValueError(NEEDS_JOBS) from error
        raise ValueError(
            f"--address {address}: no job server of Ray answers there; it is http://HEAD:8265 once "
            "`ray start --head --dashboard-host 0.0.0.0` runs on the head, with ray[default] installed"
        ) from error


def use_token() -> bool:
    """Send a token where there is one, as ``ray.init`` does; True if Ray's own commands need RAY_AUTH_MODE for it."""
    given = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if "RAY_AUTH_MODE" in os.environ or not (given or Path("~/.ray/auth_token").expanduser().is_file()):
        return False
    os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads it when it is imported
    return True


def submit(client: "JobSubmissionClient", studies: Sequence[StudyConfig], flags: Sequence[str], *, pip: bool) -> str:
    """Start the job and return its id: the study's name and a running number. Raises ValueError if it runs already, or
    if the python that it would find lacks packages.

    The server gives an id to one job only, so of two submissions at the same moment one is refused.
    """
    names = [study.name or f"{study.model}-{study.data}-{study.preset}" for study in studies]
    ours = {f"{study.results.rstrip('/')}/{name}" for study, name in zip(studies, names, strict=True)}
    short = names[0].removesuffix("-auto")
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", short).strip("-") or studies[0].model
    slug += f"-and-{len(names) - 1}-more" if names[1:] else ""
    taken = [0]
    for job in client.list_jobs():
        if numbered := re.fullmatch(rf"{re.escape(slug)}-(\d+)", job.submission_id or ""):
            taken.append(int(numbered[1]))
        theirs = set(json.loads((job.metadata or {}).get("clevrtune", "[]")))
        if ours & theirs and not job.status.is_terminal():
            raise ValueError(
                f"this study is being run by job {job.submission_id}; follow that one, stop it first, "
                "or choose another --name"
            )
    if not pip:
        job_python.refuse_bare(client, job_package.needed(studies[0].log))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "package.zip")
        own = studies[0].plugins
        job_package.write(package, own=own)
        return client.submit_job(
            entrypoint=shlex.join(["python", "study/run.py", "--address", "auto", *_without(flags, "--plugins")]),
            submission_id=f"{slug}-{max(taken) + 1}",
            runtime_env=job_package.runtime_env(package, pip=pip, own=own, log=studies[0].log),
            metadata={"clevrtune": json.dumps(sorted(ours))},
            entrypoint_num_cpus=0,  # the driver waits for others; with nothing asked for, Ray puts it on the head
        )


class JobLog:
    """Prints the log of a job, each character once, however often the connection breaks."""

    def __init__(self, client: "JobSubmissionClient", job: str):
        self._client = client
        self._job = job
        self._printed = 0

    async def print_rest(self) -> None:
        """Print what is new until the job ends. A broken connection raises OSError, RuntimeError or ClientError."""
        seen = 0  # each connection starts at the beginning of the log
        texts = self._client.tail_job_logs(self._job)
        while True:
            try:
                text = await asyncio.wait_for(anext(texts), SILENCE_SECONDS)
            except StopAsyncIteration:
                return
            print(text[max(0, self._printed - seen) :], end="", flush=True)
            seen += len(text)
            self._printed = max(self._printed, seen)


def follow(client: "JobSubmissionClient", job: str) -> "JobDetails":
    """Print the job's output until it ends. Returns its last state; raises ConnectionError if the server is gone."""
    from aiohttp import ClientError
    from ray.exceptions import RayError

    log = JobLog(client, job)
    answered = time.monotonic()
    lost = ended = complete = False
    while True:
        try:
            details = client.get_job_info(job)
        except (OSError, RuntimeError, RayError) as error:
            if "does not exist" in str(error):
                raise ConnectionError(f"the cluster no longer knows job {job}") from error
            if time.monotonic() - answered > PATIENCE_SECONDS:
                minutes = f"{PATIENCE_SECONDS / 60:.0f} min"
                raise ConnectionError(f"{client.get_address()} has not answered for {minutes}") from error
            if not lost:
                _say(f"no answer from {client.get_address()}; the job goes on without us, trying again")
            lost = True
            time.sleep(RETRY_SECONDS)
            continue
        if lost:
            _say("connected again")
        answered, lost = time.monotonic(), False
        if details.status.is_terminal() and (complete or ended):
            return details
        ended = details.status.is_terminal()  # then read the log once more, to its end
        try:
            asyncio.run(log.print_rest())
            complete = True
        except BrokenPipeError:
            raise  # standard output is closed
        except (OSError, RuntimeError, ClientError):
            complete = False  # the connection broke, or has been silent for so long that it may have
        time.sleep(1)


def exit_status(details: "JobDetails") -> int:
    """The driver's own exit status where it has one; 130 for a job that was stopped, like Ctrl-C."""
    if details.status == "SUCCEEDED":
        return 0
    return 130 if details.status == "STOPPED" else details.driver_exit_code or 1


def run(arguments: Sequence[str]) -> int:
    """Submit what ``arguments`` ask for and perhaps follow it; the exit status. Raises ValueError, ConnectionError."""
    asked, studies, flags = from_command_line(arguments)
    mode = "RAY_AUTH_MODE=token " if use_token() else ""
    client = connect(asked.address)
    from ray.exceptions import RayError

    try:
        job = submit(client, studies, flags, pip=asked.pip)
    except (OSError, RuntimeError, RayError) as error:
        raise ValueError(f"{client.get_address()} did not take the job: {last_line(error)}") from error
    ray = "ray" if shutil.which("ray") else str(Path(sys.executable).with_name("ray"))
    commands = {
        word: f"{mode}{ray} job {verb} --address {client.get_address()} {job}"
        for word, verb in (("status", "status"), ("logs", "logs --follow"), ("stop", "stop"))
    }
    _say(f"job {job} is on {client.get_address()}; results go to {studies[0].results} there")
    for word, command in commands.items():
        _say(f"{word + ':':8}{command}")
    if not asked.follow:
        return 0
    try:
        details = follow(client, job)
    except KeyboardInterrupt:
        _say(f"\nno longer following; job {job} goes on. To see more: {commands['logs']}")
        return 130
    if details.status == "FAILED" and details.driver_exit_code is None and details.message:
        _say(details.message.strip())
    status = exit_status(details)
    _say(f"job {job}: {details.status}" + ("" if status in (0, 2) else f"; {studies[0].again} goes on"))
    return status


def _say(line: str) -> None:
    print(line, flush=True)


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 sent (with --follow: complete), 1 lost, 2 bad input, or the job's own."""
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except ConnectionError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    logging.disable(logging.INFO)  # Ray reports uploads and closed connections
    sys.exit(main())
