"""The ``python`` that a job finds on its node: whether it has the packages, asked before the job is sent."""

import contextlib
import shlex
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PATIENCE_SECONDS, LOOK_EVERY = 60.0, 0.5
"""How long the cluster may take to answer, and how often it is asked."""

LACKS = "python lacks "
"""How the answer of a node begins."""

CODE = f"""
import sys
from importlib import metadata

def there(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

missing = [name for name in sys.argv[1:] if there(name) is None]
if missing:
    print({LACKS!r} + ", ".join(missing) + " (" + sys.executable + ")")
sys.exit(bool(missing))
"""
"""What a node runs; for any Python 3."""

MANAGERS_ROUND, ROUNDS = 1.5, 4
"""Ray's job manager looks at a job once a second, and may write it down once more after it was deleted."""

NO_PYTHON = 127
"""How a shell ends that finds no such program."""


def refuse_bare(client: "JobSubmissionClient", packages: Sequence[str]) -> None:
    """Raise ValueError if the ``python`` of a job lacks some of ``packages``; a cluster that does not answer in time
    is not waited for. Raises what ``client`` does.
    """
    job = client.submit_job(
        entrypoint=shlex.join(["python", "-c", CODE, *packages]),
        submission_id=f"clevrtune-looks-for-packages-{uuid.uuid4().hex[:8]}",
        entrypoint_num_cpus=0,
    )
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (details := client.get_job_info(job)).status.is_terminal():
        if time.monotonic() > ends:
            client.stop_job(job)
            return
        time.sleep(LOOK_EVERY)
    said = [line for line in client.get_job_logs(job).splitlines() if line.startswith(LACKS)]
    _forget(client, job)
    what = said[-1] if said else "no python is on the PATH there" if details.driver_exit_code == NO_PYTHON else None
    if what is not None:
        raise ValueError(
            f"a job on {client.get_address()} would fail: {what}; add --pip before --, give the nodes the image of "
            "study/cluster/recipes/Dockerfile, or start Ray from the activated environment (source .venv/bin/activate)"
        )


def _forget(client: "JobSubmissionClient", job: str) -> None:
    """Take ``job``, which has ended, off the list of a person's jobs."""
    with contextlib.suppress(RuntimeError):  # there is no such job
        for _ in range(ROUNDS):
            client.delete_job(job)
            time.sleep(MANAGERS_ROUND)
            client.get_job_info(job)
