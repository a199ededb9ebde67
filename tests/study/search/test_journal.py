"""Damage of a journal, on files that Optuna wrote: what can be mended is, what cannot is named, and nothing is lost."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.search import journal


def write(path: Path, trials: int = 4) -> None:
    """A journal of complete trials and a running one."""
    study = opened(path)
    for number in range(trials):
        trial = study.ask()
        trial.suggest_float("lr", 0.0, 1.0)
        trial.report(number / 10, 1)
        study.tell(trial, number / 10)
    study.ask()


def opened(path: Path) -> optuna.Study:
    """The study, as a new process opens it."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(study_name="study", storage=storage, load_if_exists=True, direction="maximize")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / journal.FILE)
    return tmp_path / journal.FILE


ENDS = {
    "20 bytes cut off": lambda text: text[:-20],
    "a byte cut off": lambda text: text[:-1],
    "512 NUL bytes": lambda text: text + b"\0" * 512,
    "NUL bytes and a line break": lambda text: text + b"\0" * 512 + b"\n",
    "half a record": lambda text: text + b'{"op_code": 4, "wor',
    "blank": lambda text: text + b"\n",
    "blanks": lambda text: text + b"\n\n \n",
    "no UTF-8": lambda text: text + b"\xff\xfe\n",
    "an operation that Optuna does not have": lambda text: text + b'{"op_code": 99, "worker_id": "a"}\n',
    "doubled": lambda text: text + text.splitlines(keepends=True)[-1],
    "doubled twice": lambda text: text + text.splitlines(keepends=True)[-1] * 2,
}


@pytest.mark.parametrize("fault", ENDS)
def test_a_damaged_end_is_cut_kept_and_said_and_the_study_goes_on(path: Path, fault: str) -> None:
    whole = path.read_bytes()
    damaged = ENDS[fault](whole)
    path.write_bytes(damaged)
    said = journal.mend(path)
    assert said is not None and str(path) in said and "kept in optuna.journal.cut-1" in said
    left, cut = path.read_bytes(), path.with_name("optuna.journal.cut-1").read_bytes()
    assert left + cut == damaged and whole.startswith(left) and cut
    assert journal.mend(path) is None, "it is whole now"
    study = opened(path)
    assert [trial.state for trial in study.get_trials()][:4] == [TrialState.COMPLETE] * 4
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, 0.9)
    study.tell(study.ask(), 0.95)
    values = [trial.value for trial in opened(path).get_trials()]
    assert values in ([0.0, 0.1, 0.2, 0.3, 0.9, 0.95], [0.0, 0.1, 0.2, 0.3, 0.95]), "the fifth trial may have been cut"
    if not damaged.startswith(whole):
        return
    assert len(values) == 6, "all records were whole"


def test_a_second_cut_keeps_the_first(path: Path) -> None:
    for number in (1, 2):
        with open(path, "ab") as file:
            file.write(b"torn %d" % number)
        journal.mend(path)
    assert [path.with_name(f"optuna.journal.cut-{number}").read_bytes() for number in (1, 2)] == [b"torn 1", b"torn 2"]


def test_any_end_of_the_file_can_be_mended(path: Path) -> None:
    """As after a power cut at any byte: what is left is a beginning of the study."""
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        journal.mend(path)
        left = path.read_bytes()
        assert whole.startswith(left) and (left.endswith(b"\n") or not left)
        assert size - len(left) < 1000, "at most one record"
        opened(path).ask()
        path.unlink()


def test_optuna_itself_goes_on_behind_a_torn_record_and_then_reads_nothing(path: Path) -> None:
    """Why this file is there."""
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(json.JSONDecodeError):
        opened(path).ask()
    with pytest.raises(ValueError, match="damaged in line"):
        journal.mend(path)


def elsewhere(path: Path) -> dict[str, tuple[bytes, str]]:
    """Name -> a damaged journal, and what must be said of it."""
    lines = path.read_bytes().splitlines(keepends=True)
    return {
        "a torn line behind which the study went on": (b"".join([*lines[:6], lines[6][:-20], *lines[7:]]), "line 7"),
        "a blank line": (b"".join([*lines[:3], b"\n", *lines[3:]]), "line 4"),
        "a hole": (b"".join([*lines[:8], b"\0" * len(lines[8]), *lines[9:]]), "line 9"),
        "beheaded within a record": (
            path.read_bytes()[20:],
            "line 1: its beginning, which names the study, is missing",
        ),
        "beheaded between records": (b"".join(lines[1:]), "line 1: its beginning, which names the study, is missing"),
    }


@pytest.mark.parametrize("fault", range(5))
def test_damage_elsewhere_names_file_line_and_remedy_and_touches_nothing(path: Path, fault: int) -> None:
    damaged, says = list(elsewhere(path).values())[fault]
    path.write_bytes(damaged)
    for use in (journal.mend, journal.read, journal.ReadOnly):
        with pytest.raises(ValueError) as caught:
            use(path)
        said = str(caught.value)
        assert str(path) in said and says in said and "from a copy" in said and "--fresh" in said and "\n" not in said
    assert path.read_bytes() == damaged and [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_came_before_the_damage_can_be_kept_as_the_message_says(path: Path) -> None:
    damaged, _ = elsewhere(path)["a hole"]
    path.write_bytes(b"".join(damaged.splitlines(keepends=True)[:8]))
    assert journal.mend(path) is None and opened(path).get_trials()


def test_a_whole_journal_and_none_are_left_alone(path: Path) -> None:
    before = path.read_bytes()
    assert journal.mend(path) is None and path.read_bytes() == before
    path.unlink()
    assert journal.mend(path) is None and not path.exists()


def test_waiting_trials_that_are_alike_but_for_their_marks_are_kept(path: Path) -> None:
    study = opened(path)
    for number in range(3):
        study.enqueue_trial({"lr": 0.5}, user_attrs={"from": number})
    assert journal.mend(path) is None and len(opened(path).get_trials()) == 8


def test_reading_is_of_the_journal_as_it_was_opened(path: Path) -> None:
    reading = JournalStorage(journal.ReadOnly(path))
    before = len(optuna.load_study(study_name="study", storage=reading).get_trials())
    opened(path).ask()
    assert len(optuna.load_study(study_name="study", storage=reading).get_trials()) == before == 5
    with pytest.raises(AssertionError, match="open for reading"):
        optuna.load_study(study_name="study", storage=reading).ask()
