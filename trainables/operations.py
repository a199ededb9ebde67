"""Counting a model's floating-point operations: convolutions and matrix products."""

from contextlib import nullcontext

from torch.utils.flop_counter import FlopCounterMode


def counter() -> FlopCounterMode:
    """torch's counter, a context, for models that take gradients within forward, too."""
    found = FlopCounterMode(display=False)
    # Its hooks on modules, which tell whose the operations are, break such gradients.
    found.mod_tracker = _NoModules()  # type: ignore[assignment]
    return found


class _NoModules(nullcontext[None]):
    """In place of torch's ModuleTracker: all operations count for the whole."""

    parents = frozenset({"Global"})

    def __exit__(self, *error: object) -> None:
        """Do nothing; torch calls it without arguments."""
