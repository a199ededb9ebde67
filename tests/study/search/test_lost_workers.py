"""What Ray says of workers that die, read from the files that Tune and the crew leave; real deaths on_ray."""

import json
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError

from study.search import lost_workers
from study.search.lost_workers import Death, Gone, KilledForMemory, death_of
from trainables.crew import LAST_WORDS, Crew

DIED = "The actor died unexpectedly before finishing this task.\n\tpid: 3\nIts worker process has died." + 300 * "x"

LOW = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.2, ID: d26e98) was "
    "22.9GB used / 23.54GB limit (0.97)\nOOM kill reason: and fifty lines more"
)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The death of a trial, given the error that Tune saw."""
    nodes = {"one": "node 1", "two": "node 2"}
    monkeypatch.setattr(
        lost_workers.state, "actors", lambda actor: {"Address": {"NodeID": nodes[actor]}} if actor in nodes else {}
    )

    def make(error):
        path = tmp_path / "error.pkl"
        if error is not None:
            path.write_bytes(cloudpickle.dumps(error))
        trial = SimpleNamespace(config={"folder": str(tmp_path)}, pickled_error_file=error and str(path))
        return death_of(trial)

    return make


def test_an_actor_that_died_names_its_node_and_why(read):
    death = read(RayActorError("one", DIED))
    assert death.node == "node 1" and death.certain
    assert death.words.startswith("Its worker process has died.x") and len(death.words) == lost_workers.QUOTED
    assert read(RayActorError("of another cluster", DIED)).node == ""


def test_nodes_of_an_earlier_ray_are_gone() -> None:
    gone = Gone(frozenset({"here"}))
    assert "before" in gone and "here" not in gone
    assert "" not in gone, "a death on a node that nobody knows counts"


def test_a_node_that_may_be_gone_is_not_certain(read):
    assert not read(RayActorError("one", DIED, preempted=True)).certain
    assert not read(ActorUnavailableError("RpcError", None)).certain


def test_a_kill_by_rays_memory_monitor_is_certain_and_says_so(read):
    assert read(KilledForMemory("1 worker(s) were killed\nthe rest")) == Death(
        "", "the node ran out of memory", memory=True
    )
    death = read(KilledForMemory(LOW))
    assert death == Death("d26e98", "the node 10.0.0.2 ran out of memory (22.9GB of 23.54GB were in use)", memory=True)
    assert read(RayTaskError("start", "Traceback", KilledForMemory(LOW))) == death


def test_an_error_in_a_worker_is_quoted(read):
    death = read(RayTaskError("save", "Traceback", OSError("no space left")))
    assert death == Death("", "no space left")
    assert read(RayTaskError("start", "Traceback", RayActorError("two", DIED))).node == "node 2"
    assert read(None) == Death("", "no reason is known")


def test_the_last_words_of_the_first_worker_tell_of_another(read, tmp_path):
    left = {"actor": "two", "words": "its node has died", "certain": False, "memory": False}
    (tmp_path / LAST_WORDS).write_text(json.dumps(left))
    assert read(RayActorError("one", DIED)) == Death("node 2", "its node has died", certain=False)
    assert read(RayActorError("one", DIED)).node == "node 1", "they were read twice"


@pytest.mark.parametrize("error", [OutOfMemoryError(LOW), RayActorError("two", DIED)])
def test_what_a_crew_leaves_about_a_worker_is_read_by_the_driver(read, tmp_path, error):
    crew = Crew.__new__(Crew)
    crew._folder = str(tmp_path)
    crew._leave_words(error)
    death = read(RayActorError("one", DIED))
    assert death.memory == isinstance(error, OutOfMemoryError)
    assert death.node == ("d26e98" if death.memory else "node 2") and "\n" not in death.words
