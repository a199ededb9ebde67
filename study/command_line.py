"""The command lines of all verbs: flags from a dataclass, a mistake in one line, the exit status.

cyclopts reads the dataclasses as they are. tyro does too, but its errors are boxes of several lines, and only its
private ``tyro._errors`` would let us write our own.
"""

import difflib
import functools
import importlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ParamSpec, TypeVar

from cyclopts import App, ArgumentCollection, CoercionError, CycloptsError, Parameter

import trainables
from data import plugins, source, stop_signals
from study.config import StudyConfig

Flags = TypeVar("Flags")
P = ParamSpec("P")

FLAT = Parameter(name="*")
"""Marks a field that is itself a dataclass: its fields are flags like the others."""

HIDDEN = Parameter(parse=False)
"""Marks a field that is no flag."""

NAMES = f"Models: {', '.join(trainables.names())}. Data sets: {', '.join(source.names())}."
"""The names that --model and --data take, for ``--help``."""


def parse(
    flags: Callable[..., Flags],
    arguments: Sequence[str] | None,
    *,
    verb: str,
    description: str,
    more: str = "",
    usage: str | None = None,
) -> Flags:
    """``flags``, a dataclass, made from ``arguments`` (default: those of the process).

    A flag that is given twice has its last value. ``verb`` is the path of the script; ``usage``, ``description`` and
    ``more`` are for ``--help``, which ends the process. Raises ValueError.
    """
    app = App(
        name=f"python {verb}",
        usage=usage and f"Usage: python {verb} {usage}",
        help=description,
        help_epilogue=more,
        help_format="plaintext",
        version_flags=(),
        default_parameter=Parameter(allow_repeating=True, negative=""),
        config=(_whole_numbers_are_not_rounded,),
        result_action="return_value",
    )
    app["--help"].group = "Parameters"
    app.default(flags)
    try:
        found = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ValueError(f"{' '.join(str(error).split())} `python {verb} --help` lists the flags") from error
    if found is None:  # cyclopts has printed the help
        sys.exit()
    return found


def errors_in_one_line(main: Callable[P, int]) -> Callable[P, int]:
    """``main``, but what a person can mend is one line on standard error, and status 2; it ends in good order at a
    signal, see :mod:`data.stop_signals`.
    """

    @stop_signals.obeyed()
    @functools.wraps(main)
    def command(*args: P.args, **keywords: P.kwargs) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # where a locale lacks a character, a ? is better than no table
                stream.reconfigure(errors="replace")
        try:
            return main(*args, **keywords)
        except BrokenPipeError:
            raise  # nobody reads the output: stop_signals ends the command
        except OSError as error:
            line = f"{error.filename or 'a file'}: {error.strerror or error}"
        except ValueError as error:
            line = str(error)
        print(f"error: {line}", file=sys.stderr)
        return 2

    return command


@dataclass(frozen=True, kw_only=True)
class Asked(StudyConfig):
    """What the flags of ``study/run.py`` ask for: one study, or several that differ in their models."""

    set: Annotated[list[str], Parameter(metavar="KEY=VALUE", show_default=False)] = field(  # type: ignore[assignment]
        default_factory=list
    )
    space: Annotated[list[str], Parameter(metavar="KEY=RANGE|FILE", show_default=False)] = field(default_factory=list)
    from_: Annotated[list[str], Parameter(metavar="FOLDER", show_default=False)] = field(default_factory=list)
    log: Annotated[list[str], Parameter(metavar="wandb|mlflow", show_default=False)] = field(default_factory=list)
    curve: Annotated[bool | None, Parameter(negative="--no-curve")] = None

    def __post_init__(self) -> None:
        """Check nothing: ``model`` may name several, and each study is checked when it is made."""

    def studies(self) -> list[StudyConfig]:
        """The studies, one per model. Raises ValueError for values that no study can have.

        Of several models each study is named ``--name``, if that is given, and its model.
        """
        given = {key: getattr(self, key) for key in StudyConfig.__dataclass_fields__}
        given["set"] = dict(map(_key_and_value, self.set))
        plugins.use_if_given(self.plugins)
        named = trainables.names() if self.model == "all" else self.model.split(",")
        models = list(dict.fromkeys(trainables.resolve(name) for name in named))
        if len(models) == 1 or self.name is None:
            return [StudyConfig(**given | {"model": model}) for model in models]
        return [StudyConfig(**given | {"model": model, "name": f"{self.name}-{model}"}) for model in models]


def studies(arguments: Sequence[str] | None = None) -> list[StudyConfig]:
    """The studies that ``arguments`` of ``study/run.py`` ask for. Raises ValueError."""
    return parse(
        Asked,
        arguments,
        verb="study/run.py",
        description="Tune a ClevrTex model on Ray, score the best trials on test, OOD and CAMO, and report.",
        more=NAMES,
    ).studies()


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f"--set {text}: write it as key=value")
    return key, value


def _whole_numbers_are_not_rounded(_: App, __: Any, arguments: ArgumentCollection) -> None:
    """Refuse --trials 7.5, which cyclopts would round."""
    for argument in arguments:
        for token in argument.tokens if argument.hint in (int, int | None) else ():
            if not re.fullmatch(r"[+-]?\d+", token.value):
                raise CoercionError(argument=argument, token=token, target_type=int)


VERBS = {
    "run": ("study.run", "tune a model, score the best trials on test, OOD and CAMO, and report"),
    "trials": ("study.trials", "list, show or export the trials of studies"),
    "score": ("study.score", "score the finalists of a study on further images, without training"),
    "report": ("study.report", "write the report of a study anew"),
    "compare": ("study.compare", "the best trials of several studies side by side"),
    "predict": ("study.predict", "segment pictures with the best model of a study"),
    "check": ("study.check", "whether a model or a metric of your own keeps its promises"),
    "plan": ("study.plan", "time, cost and bottleneck of a study on a cluster that is not here"),
    "submit": ("study.submit", "send a study to a Ray cluster"),
    "convert": ("data.convert", "convert a data set ahead of a study"),
    "verify": ("data.verify", "read a converted data set again and compare it with its index"),
    "show": ("data.show", "what a data set looks like: a contact sheet and statistics"),
}
"""The module whose ``main`` answers a verb of ``clevrtune``, and what the verb does."""


def clevrtune(arguments: Sequence[str] | None = None) -> int:
    """``clevrtune VERB ...``: run the verb that the first of ``arguments`` names; returns its exit status.

    The scripts of study/ and data/ under one name, wherever the package is installed. ``arguments`` are those of the
    process by default.
    """
    verb, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if verb in ("--help", "-h"):
        print("Usage: clevrtune VERB [OPTIONS]\n")
        for name, (_, what) in VERBS.items():
            print(f"  {name:9}{what}")
        print("\n`clevrtune VERB --help` lists the flags; `python study/VERB.py` in a checkout is the same command.")
        return 0
    if verb == "data" and rest:  # `clevrtune data convert`, too
        verb, *rest = rest
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1)
        guess = f"did you mean {close[0]}? " if close else ""
        print(f"error: there is no verb {verb!r}; {guess}the verbs are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    module, _ = VERBS[verb]
    status: int = importlib.import_module(module).main(rest)
    return status
