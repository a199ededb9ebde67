"""The rules of the house (CONTRIBUTING.md), each held by reading the source, and each shown able to fail."""

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "study": {"study", "trainables", "search_spaces", "data"},
    "trainables": {"trainables", "data"},
    "search_spaces": {"search_spaces"},
    "data": {"data"},
}
"""Our packages, and which of them each may import."""
LEAVES = {"trainables.metrics", "trainables.noise"}
RANGES = "search_spaces.around"
"""The one file of ``search_spaces`` that is no model's."""
KNOW_RAY = ("study.", "trainables.trainable.", "trainables.crew.", "data.store.")
KNOW_RAY += ("data.converters.", "data.ray_session.", "data.ray_node.")
KNOW_OPTUNA = ("search_spaces.", "study.search.", "study.scoring.trial_table.", "study.scoring.importance.")
KNOW_OPTUNA += ("study.display.plots.",)
TOO_LONG = 400
NAMELESS = {"utils", "util", "helpers", "helper", "misc", "common"}

DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal"}
DRAWS |= {"bernoulli", "multinomial", "poisson", "binomial"}
FILLS = {"normal_", "uniform_", "bernoulli_", "random_", "exponential_", "cauchy_", "geometric_"}
DROPS = {"Dropout", "Dropout1d", "Dropout2d", "dropout", "dropout1d", "dropout2d", "gumbel_softmax"}
SEEDING = {"noise", "training"}
"""Modules of ``trainables`` that may touch generators: the source itself, and the loop that seeds it."""


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    path: Path
    name: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @property
    def part(self) -> str:
        """The name below the package: ``space`` for ``trainables.space.background``."""
        return [*self.name.split("."), ""][1]


def modules(root: Path) -> dict[str, Module]:
    found = {}
    for package in MAY_IMPORT:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found[name] = Module(path, name, ast.parse(path.read_text(), str(path)))
    return found


def imports(module: Module, ours: dict[str, Module]) -> Iterator[str]:
    """Dotted names that ``module`` imports, anywhere in it; of ours, always those of modules."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.name.split(".")
            if module.path.name != "__init__.py":
                parents = parents[:-1]
            base = [*parents[: len(parents) - node.level + 1], *filter(None, [node.module])]
            origin = ".".join(base) if node.level else str(node.module)
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if full in ours or origin.split(".")[0] not in MAY_IMPORT else origin


def model_names(ours: dict[str, Module]) -> set[str]:
    spaces = (module for module in ours.values() if module.package == "search_spaces" and module.name != RANGES)
    return {module.part for module in spaces} - {""}


def imports_run_downwards(root: Path) -> Iterator[str]:
    """Packages import only packages below them."""
    ours = modules(root)
    for module in ours.values():
        for name in imports(module, ours):
            package = name.split(".")[0]
            if package in MAY_IMPORT and package not in MAY_IMPORT[module.package]:
                yield f"{module.name} imports {name}"
            elif module.name in LEAVES and package in MAY_IMPORT:
                yield f"{module.name} is a leaf and imports {name}"


def imports_have_no_cycle(root: Path) -> Iterator[str]:
    """No module reaches itself through imports, late ones included."""
    ours = modules(root)
    for name in ours:
        if name in reached(name, ours):
            yield f"{name} imports itself through others"


def reached(start: str, ours: dict[str, Module]) -> set[str]:
    """Everything that importing ``start`` imports, directly or not; ours and others'."""
    seen: set[str] = set()
    queue = [start]
    while queue:
        name = queue.pop()
        new = set(imports(ours[name], ours)) - seen if name in ours else set()
        seen |= new
        queue += new
    return seen


def models_stand_alone(root: Path) -> Iterator[str]:
    """A model never imports another model."""
    ours = modules(root)
    models = model_names(ours)
    for module in ours.values():
        if module.package == "trainables" and module.part in models:
            for name in imports(module, ours):
                package, part = [*name.split("."), ""][:2]
                if package == "trainables" and part in models - {module.part}:
                    yield f"{module.name} imports {name}"


def models_and_spaces_know_no_ray(root: Path) -> Iterator[str]:
    """Nothing that a model or a search space imports, directly or not, imports Ray."""
    ours = modules(root)
    models = model_names(ours)
    for module in ours.values():
        if module.part in models and module.package in ("trainables", "search_spaces"):
            if any(name.split(".")[0] == "ray" for name in reached(module.name, ours)):
                yield f"{module.name} reaches ray"


def ray_and_optuna_keep_to_their_rooms(root: Path) -> Iterator[str]:
    """Few modules name the two frameworks, so that either can change without a search through the house."""
    ours = modules(root)
    for module in ours.values():
        for name in imports(module, ours):
            for framework, rooms in (("ray", KNOW_RAY), ("optuna", KNOW_OPTUNA)):
                if name.split(".")[0] == framework and not f"{module.name}.".startswith(rooms):
                    yield f"{module.name} imports {name}"


def spaces_import_only_optuna(root: Path) -> Iterator[str]:
    """A search space needs Optuna, Python and the shared ranges, nothing else."""
    ours = modules(root)
    for module in ours.values():
        for name in imports(module, ours):
            known = name == RANGES or name.split(".")[0] in {"optuna", *sys.stdlib_module_names}
            if module.package == "search_spaces" and not known:
                yield f"{module.name} imports {name}"


def models_draw_through_noise(root: Path) -> Iterator[str]:
    """Random numbers come from ``trainables.noise``; initial weights may use torch's own generator."""
    ours = modules(root)
    for module in ours.values():
        if module.package != "trainables" or module.part in SEEDING:
            continue
        for name in imports(module, ours):
            foreign = name.startswith(("random.", "numpy.random", "torch.distributions")) or name == "random"
            if foreign or name in {f"torch.{drawing}" for drawing in DRAWS}:
                yield f"{module.name} imports {name}"
        yield from (f"{module.name}:{line} uses {used}" for line, used in draws(module.tree))


def draws(tree: ast.AST, initialising: bool = False) -> Iterator[tuple[int, str]]:
    """Line and expression of each use of a foreign source of randomness under ``tree``."""
    for node in ast.iter_child_nodes(tree):
        inside = initialising
        if isinstance(node, ast.FunctionDef):
            inside = node.name in ("__init__", "reset_parameters") or node.name.startswith("_init")
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            drawn = owner == "torch" if node.attr in DRAWS else node.attr in FILLS and owner != "nn.init"
            foreign = owner in ("np.random", "numpy.random") or node.attr in DROPS
            if foreign or (drawn and not initialising):
                yield node.lineno, f"{owner}.{node.attr}"
        yield from draws(node, inside)


def models_have_spaces(root: Path) -> Iterator[str]:
    """A model is a name in both packages: every space has a Config and a Model, every Model has a space."""
    ours = modules(root)
    models = model_names(ours)
    for name in models:
        defined = defined_names(ours.get(f"trainables.{name}"))
        for needed in {"Config", "Model"} - defined:
            yield f"search_spaces.{name} has no trainables.{name}.{needed}"
        for needed in {"TINY", "space"} - defined_names(ours.get(f"search_spaces.{name}")):
            yield f"search_spaces.{name} lacks {needed}"
    for module in ours.values():
        if module.package == "trainables" and module.name.count(".") == 1 and module.part not in models:
            if {"Config", "Model"} <= defined_names(module):
                yield f"{module.name} has no search_spaces.{module.part}"


def defined_names(module: Module | None) -> set[str]:
    """Names bound at the top level of ``module``, imports included."""
    names: set[str] = set()
    for node in module.tree.body if module else []:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                names.add(node.name)
            case ast.Import() | ast.ImportFrom():
                names.update(alias.asname or alias.name for alias in node.names)
            case ast.Assign():
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def files_are_named_for_what_they_hold(root: Path) -> Iterator[str]:
    """No rooms without a name; no file beside a script that would hide a library, being first on the path."""
    foreign = set(sys.stdlib_module_names)
    for package, distributions in importlib.metadata.packages_distributions().items():
        if set(distributions) != {"clevrtune"}:
            foreign.add(package)
    for module in modules(root).values():
        stem = module.name.split(".")[-1]
        if stem in NAMELESS:
            yield f"{module.name} does not say what it holds"
        if module.package in ("study", "data") and module.part in foreign:
            yield f"{module.name} hides the library {module.part} when a script of its folder runs"


def files_are_short(root: Path) -> Iterator[str]:
    """A file is read in one sitting."""
    for path in sorted(path for folder in (*MAY_IMPORT, "tests") for path in (root / folder).rglob("*.py")):
        lines = len(path.read_text().splitlines())
        if lines >= TOO_LONG:
            yield f"{path.relative_to(root)} has {lines} lines; below {TOO_LONG} is the rule"


WATCH = """
import importlib, os, sys, threading
root, names, libraries = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
for name in filter(None, libraries):  # what *they* do at import is not our doing
    try:
        importlib.import_module(name)
    except ImportError:
        pass
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(args[0]))
        code = path.endswith((".py", ".pyc", ".so")) or "__pycache__" in path
        if not code and not path.startswith((sys.prefix, sys.base_prefix)):
            print("opens", path)
    elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "socket.connect"):
        print(event, args)
sys.addaudithook(watch)
threads = threading.active_count()
for name in names:
    importlib.import_module(name)
if threading.active_count() > threads:
    print("starts", threading.enumerate(), flush=True)
    os._exit(1)  # without waiting for them
if "ray" in sys.modules and sys.modules["ray"].is_initialized():
    print("starts ray")
"""


def importing_starts_nothing(root: Path) -> Iterator[str]:
    """Importing every module, from another folder, opens no file but code and starts nothing."""
    ours = modules(root)
    theirs = {name for module in ours.values() for name in imports(module, ours)}
    libraries = {part for name in theirs for part in (name, name.rpartition(".")[0])}
    known = {*MAY_IMPORT, *sys.stdlib_module_names}
    libraries = {name for name in libraries if name.split(".")[0] not in known}
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH, str(root), ",".join(ours), ",".join(sorted(libraries))],
        env={"PYTHONPATH": str(root), "HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    yield from done.stdout.splitlines()
    if done.returncode:
        yield from done.stderr.strip().splitlines()[-1:]


Rule = Callable[[Path], Iterator[str]]
RULES: list[Rule] = [
    imports_run_downwards,
    imports_have_no_cycle,
    models_stand_alone,
    models_and_spaces_know_no_ray,
    ray_and_optuna_keep_to_their_rooms,
    spaces_import_only_optuna,
    models_draw_through_noise,
    models_have_spaces,
    files_are_named_for_what_they_hold,
    files_are_short,
    importing_starts_nothing,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    broken = "\n".join(rule(ROOT))
    assert not broken, f"{rule.__doc__}\n{broken}"


PLANTED: list[tuple[Rule, dict[str, str]]] = [
    (imports_run_downwards, {"trainables/a.py": "def f():\n    from study import search"}),
    (imports_run_downwards, {"data/a.py": "import trainables.noise"}),
    (imports_run_downwards, {"trainables/noise.py": "from trainables import b", "trainables/b.py": ""}),
    (imports_have_no_cycle, {"data/a.py": "from data import b", "data/b.py": "def f(): from . import a"}),
    (models_stand_alone, {"trainables/b.py": "from trainables.model import Model", "search_spaces/b.py": ""}),
    (models_stand_alone, {"trainables/b/c.py": "from .. import model", "search_spaces/b.py": ""}),
    (models_and_spaces_know_no_ray, {"trainables/model/b.py": "import data.a", "data/a.py": "import ray"}),
    (ray_and_optuna_keep_to_their_rooms, {"data/a.py": "from ray import tune"}),
    (ray_and_optuna_keep_to_their_rooms, {"trainables/trainable_block.py": "import ray"}),
    (ray_and_optuna_keep_to_their_rooms, {"study/run.py": "def f():\n    import optuna.samplers"}),
    (spaces_import_only_optuna, {"search_spaces/model.py": "import numpy"}),
    (spaces_import_only_optuna, {"search_spaces/model.py": "from search_spaces import b", "search_spaces/b.py": ""}),
    (models_draw_through_noise, {"trainables/a.py": "import torch\ndef f(x): return torch.randn(3)"}),
    (models_draw_through_noise, {"trainables/a.py": "from torch.distributions import Normal"}),
    (models_draw_through_noise, {"trainables/a.py": "def f(x): return x.bernoulli_()"}),
    (models_draw_through_noise, {"trainables/a.py": "class A: rng = np.random.rand"}),
    (models_draw_through_noise, {"trainables/a.py": "from random import random"}),
    (models_draw_through_noise, {"trainables/a.py": "from torch import randn"}),
    (models_draw_through_noise, {"trainables/a.py": "def __init__(self): self.drop = nn.Dropout(0.1)"}),
    (models_have_spaces, {"search_spaces/model2.py": "TINY = {}\ndef space(): ..."}),
    (models_have_spaces, {"trainables/model2/__init__.py": "from b import Config, Model"}),
    (files_are_named_for_what_they_hold, {"trainables/model/utils.py": ""}),
    (files_are_named_for_what_they_hold, {"study/ray.py": ""}),
    (files_are_named_for_what_they_hold, {"data/queue.py": ""}),
    (files_are_short, {"data/a.py": "\n" * TOO_LONG}),
    (importing_starts_nothing, {"data/a.py": "open('/etc/hostname')"}),
    (importing_starts_nothing, {"data/a.py": "import subprocess\nsubprocess.run(['true'])"}),
    (importing_starts_nothing, {"data/a.py": "from threading import *\nTimer(9, print).start()"}),
    (importing_starts_nothing, {"data/a.py": "raise OSError('no such data')"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "files"), PLANTED, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(PLANTED)]
)
def test_a_planted_violation_is_caught(rule: Rule, files: dict[str, str], tmp_path: Path) -> None:
    for path, text in SOUND_HOUSE.items():
        write(tmp_path / path, text)
    assert list(rule(tmp_path)) == []
    for path, text in files.items():
        write(tmp_path / path, text)
    assert list(rule(tmp_path)) != []


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


SOUND_MODEL = """
from trainables import noise

class Config: ...

class Model:
    def __init__(self):
        self.weight = nn.init.normal_(torch.empty(3)) + torch.randn(3)

    def forward(self, x):
        return noise.normal((3,), x)
"""
SOUND_HOUSE = {
    "trainables/__init__.py": "",
    "trainables/noise.py": "def normal(shape, like): return torch.randn(shape)",
    "trainables/model/__init__.py": SOUND_MODEL,
    "search_spaces/__init__.py": "",
    "search_spaces/around.py": "class Around: ...",
    "search_spaces/model.py": "from search_spaces.around import *\nTINY = {}\ndef space(trial, base): return {}",
    "study/__init__.py": "",
    "study/search.py": "from trainables import noise\nfrom data import spec",
    "data/__init__.py": "",
    "data/spec.py": "",
}
"""A small house that keeps every rule: each violation is planted into it."""
