"""What a user types (run, submit, plan, report, compare, ...), what a study is, and four packages that do the work.

From Python: ``from study import Study`` (docs/python.md).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# An editable install finds our packages last, after a folder on PYTHONPATH that has models in `trainables/`.
if (_ROOT := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.append(_ROOT)

if TYPE_CHECKING:
    from study.stages.study import Study as Study


def __getattr__(name: str) -> Any:
    """``Study`` is imported when it is asked for: it takes Ray, torch and Optuna, which take seconds."""
    if name == "Study":
        from study.stages.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
