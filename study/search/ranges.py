"""``--space``: ranges given by hand, instead of the model's or beside them.

An entry is ``KEY=LOW..HIGH``, ``KEY=A,B,C``, a YAML file of such keys, or a Python file with a ``space(trial, base)``.
After ``=`` may also stand what a YAML file would have: ``[A, B]`` or ``{low: 1e-4, high: 1e-2, log: true}``.
"""

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.display.error_lines import first_line
from study.search import distributions
from study.search.proposal import Answered, Proposal, Space
from trainables import typed_config

WIDE = 100
"""From this ratio of its ends on, a range of positive numbers that the model's space does not have is logarithmic."""

MANY = 64
"""Of an integer range with fewer values the model must take each; of others, both ends."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; without ``log`` the scale is that of the model's own range."""

    low: float
    high: float
    log: bool | None = None


Choices = tuple[Any, ...]
"""Two values or more."""


def canonical(entries: Sequence[str], config_class: type) -> list[str]:
    """``entries`` as they are recorded: one per key, in the order of the keys, then the path of a Python file.

    YAML files are read. Raises ValueError for what cannot be read, and for keys and values that ``config_class`` does
    not take.
    """
    asked = _read(entries, config_class)
    python = [entry for entry in entries if entry.endswith(".py")]
    if len(python) > 1:
        raise ValueError(f"--space has two Python files, {python[0]} and {python[1]}; give one")
    return [_text(key, asked[key], config_class) for key in sorted(asked)] + [str(Path(p).resolve()) for p in python]


def key_of(entry: str) -> str | None:
    """The key of a canonical entry, None for a Python file."""
    return None if entry.endswith(".py") else entry.partition("=")[0]


def applied(proposal: Proposal, entries: Sequence[str], config_class: type) -> Proposal:
    """``proposal`` with the space and the ranges that the canonical ``entries`` ask for, and notes for people.

    Raises ValueError for a Python file that does not do, and for ranges that cannot be logarithmic.
    """
    notes: list[str] = []
    for entry in entries:
        if entry.endswith(".py"):
            space, content = _from_file(Path(entry), config_class)
            proposal = dataclasses.replace(proposal, space=space, space_file=content)
    own = proposal.searched()
    given: dict[str, BaseDistribution] = {}
    for key, asked in _read([entry for entry in entries if not entry.endswith(".py")], config_class).items():
        given[key] = _distribution(key, asked, own.get(key))
        if key not in own:
            notes.append(f"--space adds {key}: {distributions.text(distributions.recorded(given[key]))}")
    added = [key for key in given if key not in own]
    proposal = dataclasses.replace(proposal, space=_with(proposal.space, given, added))
    first = proposal.base_parameters()
    for key in given:
        if not distributions.holds(given[key], proposal.base[key]):
            value = first.get(key, distributions.nearest(given[key], proposal.base[key]))
            shown, taken = ("none" if v is None else v for v in (proposal.base[key], value))
            where = distributions.text(distributions.recorded(given[key]))
            notes.append(f"the preset's {key} {shown} is outside --space ({where}); the first trial takes {taken}")
    return dataclasses.replace(proposal, notes=tuple(notes))


def refuse_bad_ends(proposal: Proposal, entries: Sequence[str], build: Callable[[dict[str, Any]], Any]) -> None:
    """Raise ValueError if ``build``, given hyperparameters, refuses the first trial or one with an end of a range.

    Of a short range of integers all are tried. Only the ranges of ``entries`` are tried, or all of a Python file's.
    """
    searched = proposal.searched()
    keys = searched if any(key_of(entry) is None for entry in entries) else filter(None, map(key_of, entries))
    tries: list[tuple[str, dict[str, Any]]] = [("the first trial", {})]
    for key in keys:
        if key not in searched:
            raise ValueError(f"--space {key}: with the other ranges it is never searched; leave it out")
        tries += [(f"{key}={value}", {key: value}) for value in _to_try(searched[key])]
    first = proposal.base_parameters()
    for name, changed in tries:
        values = proposal.hyperparameters(distributions.Recorder({**proposal.base, **first, **changed}))
        values |= {key: value for key, value in changed.items() if key in proposal.known}
        try:
            build(values)
        except Exception as error:  # a model's sizes fail in many ways
            raise ValueError(f"--space: the model refuses {name}: {first_line(error)}") from error


def _to_try(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, IntDistribution) and distribution.high - distribution.low < MANY:
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    return distributions.ends(distribution)


def _with(space: Space, given: Mapping[str, BaseDistribution], added: Sequence[str]) -> Space:
    """``space`` with the ranges of ``given``, of which it does not suggest those of ``added`` itself."""

    def changed(trial: Any, base: dict[str, Any]) -> dict[str, Any]:
        answers = {key: partial(_suggest, trial, key, distribution) for key, distribution in given.items()}
        chosen = space(Answered(trial, answers), base)
        return chosen | {key: answers[key]() for key in added}

    return changed


def _suggest(trial: Any, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)


def _distribution(key: str, asked: Range | Choices, own: BaseDistribution | None) -> BaseDistribution:
    if not isinstance(asked, Range):
        return CategoricalDistribution(asked)
    log = asked.log
    if log is None and isinstance(own, FloatDistribution | IntDistribution):
        log = own.log
        if log and not asked.low > 0:
            raise ValueError(
                f"--space {key}: its range is logarithmic, so {asked.low:g} must be above zero; "
                f"or say {key}={{low: {asked.low:g}, high: {asked.high:g}, log: false}}"
            )
    elif log is None:
        log = asked.low > 0 and asked.high / asked.low >= WIDE
    if isinstance(asked.low, int) and isinstance(asked.high, int):
        return IntDistribution(asked.low, asked.high, log=log)
    return FloatDistribution(asked.low, asked.high, log=log)


def _read(entries: Sequence[str], config_class: type) -> dict[str, Range | Choices]:
    """The ranges and choices of ``entries`` by key, without Python files."""
    found: dict[str, Range | Choices] = {}
    for entry in entries:
        if entry.endswith(".py"):
            if not Path(entry).is_file():
                raise ValueError(f"--space {entry}: there is no such file")
            continue
        for key, asked in _pairs(entry):
            if key in found:
                raise ValueError(f"--space has {key} twice; give it one range")
            if key == "steps":
                raise ValueError("--space steps=...: the length of a trial is set with --steps")
            found[key] = _typed(config_class, key, asked)
    return found


def _pairs(entry: str) -> list[tuple[str, Any]]:
    """Keys and what is asked for them, as YAML has it or as text."""
    if entry.endswith((".yaml", ".yml")):
        try:
            content = yaml.safe_load(Path(entry).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"--space {entry}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"--space {entry} is no YAML: {_where(error)}") from error
        if not isinstance(content, dict) or not content:
            raise ValueError(f"--space {entry} must map hyperparameters to ranges, e.g. lr: 1e-4..1e-2")
        return [(str(key), asked) for key, asked in content.items()]
    key, equals, asked = entry.partition("=")
    if not (key and equals and asked):
        raise ValueError(f"--space {entry}: write it as key=low..high or key=a,b, or give a .yaml or .py file")
    if asked.startswith(("[", "{")):
        try:
            return [(key, yaml.safe_load(asked))]
        except yaml.YAMLError as error:
            raise ValueError(f"--space {entry} is no YAML: {_where(error)}") from error
    return [(key, asked)]


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or first_line(error)
    return problem if mark is None else f"line {mark.line + 1}: {problem}"


def _typed(config_class: type, key: str, asked: Any) -> Range | Choices:
    """What ``asked`` means for ``key`` of ``config_class``. Raises ValueError."""
    wrong = f"--space {key}={asked if isinstance(asked, str) else json.dumps(asked, default=str)}"
    if isinstance(asked, str) and ".." in asked:
        low, _, high = asked.partition("..")
        asked = {"low": low, "high": high}
    if isinstance(asked, Mapping):
        if not {"low", "high"} <= asked.keys() <= {"low", "high", "log"}:
            raise ValueError(f"{wrong}: a range has low and high, and may have log")
        log = asked.get("log")
        if log not in (None, True, False):
            raise ValueError(f"{wrong}: log must be true or false")
        low, high = (_value(config_class, key, asked[end], wrong) for end in ("low", "high"))
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
            raise ValueError(f"{wrong}: a range has numbers at its ends; write choices as a,b")
        if not low < high:
            raise ValueError(f"{wrong}: the range is {'empty' if low == high else 'reversed'}; low must be below high")
        if log and not low > 0:
            raise ValueError(f"{wrong}: low must be above zero on a logarithmic scale")
        return Range(low, high, log)
    if isinstance(asked, str):
        asked = [part.strip() for part in asked.split(",")]
    if not isinstance(asked, list):
        asked = [asked]
    values = tuple(_value(config_class, key, value, wrong) for value in asked)
    if len({(value, isinstance(value, bool)) for value in values}) < len(values):
        raise ValueError(f"{wrong}: a value stands there twice")
    if len(values) < 2:
        raise ValueError(f"{wrong}: a range is low..high, choices are two or more; --set fixes a single value")
    return values


def _value(config_class: type, key: str, value: Any, wrong: str) -> Any:
    try:
        if isinstance(value, str):
            try:
                return typed_config.parse(config_class, key, value)
            except ValueError:  # "none" may be a word
                if value.lower() not in ("none", "true", "false"):
                    raise
        return typed_config.typed(config_class, {key: value})[key]
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from error


def _text(key: str, asked: Range | Choices, config_class: type) -> str:
    """The entry that :func:`_read` reads as ``asked``."""
    if isinstance(asked, Range):
        if asked.log is None:
            return f"{key}={asked.low!r}..{asked.high!r}"
        return f"{key}={json.dumps(dataclasses.asdict(asked))}"
    plain = f"{key}={','.join('none' if value is None else str(value) for value in asked)}"
    try:
        if _read([plain], config_class)[key] == asked:
            return plain
    except ValueError:
        pass
    return f"{key}={json.dumps(asked)}"


def _from_file(path: Path, config_class: type) -> tuple[Space, str]:
    """The function ``space`` of a Python file, checked when it is called, and the hash of the file's content."""
    spec = importlib.util.spec_from_file_location(f"space_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        content = path.read_bytes()
        spec.loader.exec_module(module)
    except OSError as error:
        raise ValueError(f"--space {path}: {error.strerror}") from error
    except Exception as error:
        raise ValueError(f"--space {path} cannot be imported: {_raised(error, path)}") from error
    function = getattr(module, "space", None)
    if not callable(function):
        raise ValueError(f"--space {path} has no function space(trial, base)")

    def space(trial: Any, base: dict[str, Any]) -> dict[str, Any]:
        try:
            chosen = function(trial, dict(base))
        except Exception as error:
            raise ValueError(f"--space {path}: space(trial, base) raises {_raised(error, path)}") from error
        if not isinstance(chosen, dict):
            raise ValueError(f"--space {path}: space(trial, base) returns {type(chosen).__name__}; it must be a dict")
        return typed_config.typed(config_class, chosen)

    return space, hashlib.sha256(content).hexdigest()


def _raised(error: Exception, path: Path) -> str:
    """Type and message of ``error``, and the line of ``path`` that it comes from."""
    lines, place = [], error.__traceback__
    while place is not None:
        if place.tb_frame.f_code.co_filename == str(path):
            lines.append(place.tb_lineno)
        place = place.tb_next
    if isinstance(error, SyntaxError) and error.lineno is not None:
        lines.append(error.lineno)
    return f"{type(error).__name__}: {first_line(error)}" + (f" (line {lines[-1]})" if lines else "")
