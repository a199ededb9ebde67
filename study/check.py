"""Whether a model or a metric of one's own keeps its promises: ``python study/check.py my_model --plugins mine``."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data import plugins
from study import command_line
from trainables import names, own_metrics


@dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    name: str
    """a model, NAME of trainables/NAME.py, or a metric, NAME of trainables/own_metrics/NAME.py"""
    plugins: str | None = field(default=None, kw_only=True)
    """folder of your own that holds it"""


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per promise; returns the exit status, 0 if all are kept, else 2."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/check.py",
        usage="NAME [--plugins DIR]",
        description="Check what a model and its search space, or a metric, promise; it takes a minute.",
    )
    plugins.use_if_given(flags.plugins)
    kept = broken = 0
    for says, wrong in _metric(flags.name) if flags.name in own_metrics.names() else _model(flags.name):
        kept, broken = kept + (wrong is None), broken + (wrong is not None)
        print(f"ok      {says}" if wrong is None else f"broken  {says}: {wrong}", flush=True)
    if broken:
        print(f"error: {flags.name} breaks {broken} of the {kept + broken} promises looked at", file=sys.stderr)
        return 2
    print(f"{flags.name} keeps all {kept} promises")
    return 0


def _metric(name: str) -> Iterator[tuple[str, str | None]]:
    from trainables import metric_contract  # not before the arguments are read: torch takes seconds
    from trainables.contract import judged

    for promise, wrong in judged(metric_contract.PROMISES, name):
        yield promise.says, wrong
        if wrong is not None and promise is metric_contract.PROMISES[0]:
            return


def _model(name: str) -> Iterator[tuple[str, str | None]]:
    """The promises of the model ``name`` and of its space; only the first where that is broken: it breaks the others.

    Raises ValueError for an unknown name.
    """
    _refuse_half(name)
    from study.search import space_contract
    from trainables import contract, resolve

    space = space_contract.Space(resolve(name))
    for promise, wrong in contract.judged(space_contract.PROMISES[:1], space):
        yield promise.says, wrong
        if wrong is not None:
            return
    model = contract.Candidate(space.name, space.module.TINY)
    for promise, wrong in contract.judged(contract.PROMISES, model):
        yield promise.says, wrong
        if wrong is not None and promise is contract.PROMISES[0]:
            return
    for promise, wrong in contract.judged(space_contract.PROMISES[1:], space):
        yield promise.says, wrong


def _refuse_half(name: str) -> None:
    """Raise ValueError for a model without a search space, or a space without a model."""
    import importlib.util

    there = {
        package: name.isidentifier() and importlib.util.find_spec(f"{package}.{name}") is not None
        for package in ("trainables", "search_spaces")
    }
    if name not in names() and any(there.values()):
        (missing,) = (package for package, found in there.items() if not found)
        (found,) = set(there) - {missing}
        raise ValueError(f"{found}/{name}.py is there, and {missing}/{name}.py is missing; write it beside the other")


if __name__ == "__main__":
    sys.exit(main())
