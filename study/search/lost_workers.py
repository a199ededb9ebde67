"""Workers that die: what Ray says of it, and whose failure it is.

A worker that dies because its node is gone is nobody's failure. Ray notices within seconds that a worker has died, but
takes up to a quarter of a minute to notice that a node has. So a death is recorded with its node, and judged when there
are enough of them to fail a trial. A worker that Ray's memory monitor has ended is nobody's failure either.
"""

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray._private import serialization, state
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError

from data import memory_monitor
from study.display.error_lines import last_line
from trainables.crew import LAST_WORDS

QUOTED = 200
"""So many characters of what Ray says are kept."""


@dataclass(frozen=True)
class Death:
    """The death of a trial's worker, or another error that made Tune take a new worker."""

    node: str
    """Ray's id of the node that the worker was on; empty if nobody knows"""
    words: str
    """what Ray says"""
    certain: bool = True
    """whether its node is not about to be gone as well, for all that Ray knows"""
    memory: bool = False
    """whether Ray's memory monitor has ended the worker"""


class KilledForMemory(OutOfMemoryError, RayActorError):
    """A worker that Ray's memory monitor has killed.

    Ray's own class is no RayActorError, and Tune's reaction to anything else is to stop all trials.
    """

    def __init__(self, message: str):
        """As Ray makes its own."""
        RayActorError.__init__(self, "", message)
        self.message = message


def survive_memory_kills() -> None:
    """Let Ray raise KilledForMemory in this process, where Tune runs."""
    serialization.OutOfMemoryError = KilledForMemory  # type: ignore[misc]


def death_of(trial: Any) -> Death:
    """Why Tune took a new worker for ``trial``, a Tune trial, a moment ago."""
    error: Any = None
    if trial.pickled_error_file is not None:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    if isinstance(error, RayTaskError):
        error = error.cause
    last_words = Path(trial.config["folder"]) / LAST_WORDS
    if last_words.exists():  # its first worker has ended itself, because another one had died
        left = json.loads(last_words.read_text())
        last_words.unlink()
        if left["memory"]:
            return Death(*memory_monitor.told(left["words"]), memory=True)
        return Death(_node(left["actor"]), _quoted(left["words"]), left["certain"])
    if isinstance(error, OutOfMemoryError):
        return Death(*memory_monitor.told(str(error)), memory=True)
    if not isinstance(error, RayActorError):
        return Death("", _quoted(last_line(error) if error is not None else "no reason is known"))
    certain = not (isinstance(error, ActorUnavailableError) or error.preempted)
    return Death(_node(error.actor_id), _quoted(_cause(str(error))), certain)


@dataclass(frozen=True)
class Gone(Container[str]):
    """Ray's ids of the nodes that are no more, those of an earlier Ray among them."""

    living: frozenset[str]

    def __contains__(self, node: object) -> bool:
        return bool(node) and node not in self.living


def gone() -> Gone:
    """The nodes that are no more."""
    return Gone(frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"]))


def _node(actor: str | None) -> str:
    known = state.actors(actor) if actor else {}
    return known["Address"]["NodeID"] if known else ""


def _cause(text: str) -> str:
    """The line of Ray's text on a dead actor that says why; the lines before it name the actor."""
    lines = [line for line in text.splitlines() if line and not line.startswith("\t")]
    return lines[-1] if lines else text


def _quoted(words: str) -> str:
    return words if len(words) <= QUOTED else words[: QUOTED - 3] + "..."
