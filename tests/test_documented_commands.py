"""Every command of README, CONTRIBUTING and docs is typed, word for word, and made small by flags behind it.

The commands run in this process, in a folder that has what they name: the study of README's first command and copies
of it, pictures, a folder for --plugins. A flag that is given twice has its last value, so that what is added behind a
command counts. A new command of a page is run as the others of its verb; one that cannot be run needs a line in
:data:`NOT_RUN`.
"""

import configparser
import contextlib
import glob
import logging
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data import convert
from study import command_line, presets, submit
from study.cluster import ray_runtime
from tests import documents, own_folder
from tests.data import s3_server
from tests.data.sources import published
from tests.documents import ROOT, Command

NOT_RUN = {
    "make": "makes an environment, or runs for minutes to hours; that the target is there is looked at",
    ".ci/run": "runs this test",
    ".venv/bin/python -m pytest": "the tests run in this suite",
    "pip": "needs the network; that setup.cfg has the extras is looked at",
    "source .venv/bin/activate": "a shell's own",
    "export": "a shell's own; its variables are those of tests/data/test_remote.py",
    "chmod": "a file in the home folder of whoever runs the tests",
    "ssh": "another machine",
    "ray": "Ray's own command, on a cluster; tests/study/test_submit.py starts one",
    "mlflow": "another program, which waits; tests/study/display/test_loggers.py writes what it shows",
    "optuna-dashboard": "another program, which waits; the journal that it reads is Optuna's own",
    "python -m tests.gpu": "needs a GPU, or packs 34 MiB; tests/gpu/test_pack.py packs",
    "python -m tests.benchmarks": "minutes to hours on an idle machine",
    "python -m tests.data.damage": "minutes; tests/data/test_damage.py does fewer",
    "python -m tests.data.sources.damages": "minutes; tests/data/sources/test_clevrtex_fuzz.py does fewer",
    "python -m tests.search_spaces.test_distributions": "writes into the checkout what its own test compares",
}
"""First words of commands that are not run, and why."""

TINY = "--steps 3 --reports 3 --validation-images 8 --finalists 1 --seeds 1 --no-curve"
"""Behind a command that runs a study to its report."""

WHOLE = {
    "python study/run.py --model space --trials 50": "--trials 8",
    "python study/run.py --model space --trials 80": "--trials 9",
    "python study/run.py --model all --trials 20": "--model space,gnm --trials 9",
    "python study/run.py --model space --data 'clevrtex:full-crop-(128,128)' --data-root /data/clevrtex": (
        "--trials 1 --data-root published"
    ),
    "python study/run.py --model dti_sprites --data 'images-(64,64)' --data-root /data/my_pictures": (
        "--trials 1 --data-root PICTURES"
    ),
}
"""Commands that are run to their report, and the flags behind :data:`TINY`. Other studies get ``--dry-run``, which
reads flags, ranges and earlier studies, builds the model and trains a step: they differ from these in flags only.
"""

BEHIND = {
    "clevrtune run --plugins mine": "--dry-run",
    "python study/submit.py": "--results /shared/results --cache /shared/cache --dry-run",
    "python study/run.py --model iodine --preset paper": "--preset tiny --dry-run",  # one step takes 12 s
    "python study/run.py --model space --data squares": "--plugins mine --dry-run",
    "python study/run.py": "--dry-run",
    "clevrtune run": "--dry-run",
    "python study/check.py colour_field": "--plugins mine",
    "python study/plan.py --model iodine": "--seconds-per-step 1",  # as measured on a GPU; here it takes 44 s
    "python study/score.py": "--data-root published",
    "python data/convert.py": "--data-root published",
    "tensorboard": "--inspect",  # say what is there in place of waiting for a browser
}
"""First words of commands, and the flags behind them; the first that fits counts."""


def fits(command: str, words: str) -> bool:
    """Whether ``command`` begins with ``words``; "python -m tests.gpu" is also the beginning of its submodules."""
    return re.match(rf"{re.escape(words)}(?=[ .]|$)", command) is not None


def runnable(*, on_ray: bool) -> list[Command]:
    """The commands that are run, in the order of the pages; ``on_ray``: those that need Ray, or a study that was."""
    found = [each for each in documents.commands() if not any(fits(each.line, words) for words in NOT_RUN)]
    needs = re.compile(r"results/|--logdir|list results|export results|--address auto|score\.py")
    return [each for each in found if on_ray == (each.line in WHOLE or bool(needs.search(each.line)))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name, but the studies."""
    place = tmp_path_factory.mktemp("first-hour")
    pictures = place / "PICTURES"
    shutil.copytree(ROOT / "tests" / "data" / "images", pictures)
    (place / "DIR").symlink_to(pictures)
    shutil.copytree(ROOT / "tests" / "data" / "clevrtex", place / "published")
    outd = shutil.copytree(ROOT / "tests" / "data" / "clevrtex" / "clevrtex_outd", place / "more" / "clevrtex_outd")
    published.as_variant(outd, "pbg").rename(place / "published" / "clevrtex_pbg")
    own_folder.write(place / "mine", *own_folder.MODEL, own_folder.METRIC, "data/sources/squares.py")
    for name in ("study", "data", "tests"):
        (place / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        at(place, patch)
        assert convert.main(["clevrtex:full-crop-(128,128)", "--data-root", "published"]) == 0
    return place


@pytest.fixture(scope="module")
def studies(place: Path, ray_cluster: None) -> None:
    """In its results/ the study of README's first command, and copies of it."""
    first = next(iter(WHOLE))
    with pytest.MonkeyPatch.context() as patch:
        at(place, patch)
        assert run(first) == 0
    study = place / "results" / "space-synthetic-0.2+siblings-tiny"
    for copy in ("STUDY", "OTHER"):
        shutil.copytree(study, study.with_name(copy))


def at(place: Path, patch: pytest.MonkeyPatch) -> None:
    """What a command finds: its folder, and a home with an empty cache."""
    patch.chdir(place)
    patch.setenv("HOME", str(place / "home"))
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setattr(ray_runtime, "leave", lambda: None)  # after each model of several: the cluster is that of all tests


def typed(command: str) -> list[str]:
    """The words of ``command`` as a shell gives them, with the names that a reader fills in and the flags behind."""
    if command in WHOLE:
        behind = f"{TINY} {WHOLE[command]}"
    else:
        behind = next((flags for words, flags in BEHIND.items() if fits(command, words)), "")
    model = "colour_field" if "--plugins" in command else "space"
    words = [word.replace("NAME", model) for word in shlex.split(command) if word != "..."]
    return [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])] + behind.split()


def run(command: str) -> int:
    """Run ``command``; its exit status."""
    program, *words = typed(command)
    if program == "clevrtune":
        return command_line.clevrtune(words)
    if program == "tensorboard" or words[0] == "-m":
        here = Path(sys.executable).with_name(program)
        return subprocess.run([here, *words], check=False, stdout=sys.stdout, stderr=sys.stderr).returncode
    verb = Path(words[0]).stem
    assert program == "python" and command_line.VERBS[verb][0] == words[0].removesuffix(".py").replace("/", ".")
    if verb == "submit":  # the cluster is not here: what the job would run
        _, _, words = submit.from_command_line(words[1:])
        return command_line.clevrtune(["run", *words])
    return command_line.clevrtune([verb, *words[1:]])


@contextlib.contextmanager
def s3(command: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where ``command`` names a bucket: a server that has it."""
    if "s3://" not in command:
        yield
        return
    pytest.importorskip("moto", reason="moto[s3], flask and flask-cors are not installed")
    with s3_server.serving() as server:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield


@pytest.mark.parametrize("command", runnable(on_ray=False), ids=lambda command: command.line[:90])
def test_it_runs(command: Command, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    at(place, monkeypatch)
    runs(command, monkeypatch, capfd)


@pytest.mark.ray
@pytest.mark.parametrize("command", runnable(on_ray=True), ids=lambda command: command.line[:90])
def test_it_runs_on_ray(
    command: Command, place: Path, studies: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    at(place, monkeypatch)
    printed = runs(command, monkeypatch, capfd)
    if command.line in WHOLE:
        reports = re.findall(r"^report: (.*)$", printed, re.MULTILINE)
        assert reports and all(Path(report).is_file() for report in reports)


def runs(command: Command, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> str:
    """Run ``command``, and see that it ends well; what it printed."""
    patch.setattr(logging, "raiseExceptions", False)  # Ray's loggers may hold the stderr of an earlier test, now closed
    with own_folder.kept_out(), s3(command.line, patch):
        try:
            status = run(command.line)
        except SystemExit as end:  # --help
            status = end.code or 0
    said = "".join(capfd.readouterr())
    assert status == 0, f"{command}: {said.splitlines()[-1:]}"
    assert said.strip() and "Traceback" not in said
    words = typed(command.line)
    assert "--out" not in words or Path(words[words.index("--out") + 1]).exists()
    return said


def test_a_reader_who_types_all_commands_never_asks_a_study_another_question(place, monkeypatch):
    """Of a folder that has a study; the commands of the other pages are records of what was run somewhere."""
    at(place, monkeypatch)
    questions: dict[Path, dict] = {}
    for page, line in documents.commands():
        _, *words = shlex.split(line)
        if page not in ("README.md", "studies.md", "data.md") or words[:1] != ["study/run.py"] or "--help" in words:
            continue
        for asked in command_line.studies(words[1:]):
            study = presets.resolve(asked, has_gpu=False)
            assert questions.setdefault(study.folder.path, study.identity) == study.identity, f"{line}: add --name"
    assert len(questions) > 10


def test_every_line_of_a_block_is_a_command():
    """So that none is overlooked: a new program needs its name in ``documents.PROGRAMS``."""
    for page in documents.PAGES:
        for block in documents.blocks(page.read_text(encoding="utf-8")):
            if not documents.is_listing(block):
                assert all(documents.is_command(line) for line in block), f"{page.name}: {block}"


def test_tables_name_commands_that_are_there():
    lines = [command.line for command in documents.commands()]
    assert len(lines) > 100 and set(WHOLE) <= set(lines)
    for words in [*NOT_RUN, *BEHIND]:
        assert any(fits(line, words) for line in lines), f"no page has {words} any more"


def test_make_has_the_targets():
    asked = {each.line.split()[1] for each in documents.commands() if each.line.startswith("make ")}
    assert {"demo", "test"} <= asked <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_extras_are_there():
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    named = re.findall(r"clevrtune\[(\w+)\]", " ".join(each.line for each in documents.commands()))
    assert set(named) > {"cluster", "wandb"} and set(named) <= set(setup["options.extras_require"])


PAGE = """
Type `clevrtune check mine --plugins mine`, or `clevrtune check`.

    make demo                 # first
    python study/run.py --model space \\
        --trials 5

    results/<study>/
      report.html             python study/no.py

| command, after `python study/run.py --seed 1` | score |
|---|--:|
| `--model gnm` | `--model no` |

```
$ python study/plan.py --model space | head
python study/no.py
```
"""


def test_commands_are_found_wherever_a_page_shows_them() -> None:
    found = set(documents.lines(PAGE))
    assert found == {
        "clevrtune check mine --plugins mine",
        "make demo",
        "python study/run.py --model space --trials 5",
        "python study/run.py --seed 1 --model gnm",
        "python study/plan.py --model space",
    }
