"""Metrics of one's own: each file here, or in a folder of this name on the path, is one, found by its name.

A metric is a file NAME.py with two things::

    DIRECTION = "max"  # or "min": where it is better

    def score(predicted, true, reconstruction, image):
        ...

``predicted`` and ``true`` are label maps (B, H, W), int64 with 0 = background in the truth; ``reconstruction`` and
``image`` are (B, 3, H, W), float32 in [0, 1], the former unclamped. All are numpy arrays. It returns (B,) floats, one
per image and independent of the other images; NaN where an image leaves it undefined.

Validation and the final stage compute every metric that is found, and ``--metric NAME`` makes it the objective.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__path__[:] = pkgutil.extend_path(__path__, __name__)


TAKEN = frozenset(
    "acc mIoU mIoU_fg mIoU_gt DICE DICE_FG mIoU_fg_strict ARI ARI_FG mSC mSC_full mSC_fg mBO mBO_fg MSE loss "
    "seconds parameters images undefined n_undefined entry trial seed split source image true_objects draws".split()
)
"""Names that mean something else in a study and its files; so do those that begin with ``seg_``."""


def names() -> list[str]:
    """The metrics there are, sorted. Raises ValueError for a name that is taken."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    for name in found:
        if name in TAKEN or name.startswith("seg_"):
            raise ValueError(f"own_metrics/{name}.py: {name} means something else already; give the file another name")
    return found


def fingerprints() -> dict[str, str]:
    """Every metric -> a hash of its file, of a package of all its files: it changes when the metric is edited."""
    found = {}
    for name in names():
        spec = importlib.util.find_spec(f"{__name__}.{name}")
        assert spec is not None and spec.origin is not None
        origin, digest = Path(spec.origin), hashlib.sha256()
        for path in sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]:
            digest.update(path.read_bytes())
        found[name] = digest.hexdigest()[:16]
    return found


def load(name: str) -> ModuleType:
    """The file of the metric ``name``. Raises ValueError if it lacks one of the two things."""
    module = importlib.import_module(f"{__name__}.{name}")
    wanted = getattr(module, "DIRECTION", None)
    if wanted not in ("max", "min"):
        raise ValueError(f"{module.__file__}: DIRECTION is {wanted!r}; write DIRECTION = 'max' or 'min'")
    if not callable(getattr(module, "score", None)):
        raise ValueError(f"{module.__file__} has no function score(predicted, true, reconstruction, image)")
    return module


def direction(name: str) -> str:
    """``max`` or ``min``: where the metric ``name`` is better. Raises ValueError."""
    found: str = load(name).DIRECTION
    return found


def scores(*batch: Any) -> "dict[str, NDArray[np.float64]]":
    """Every metric of one's own for a batch: name -> (B,).

    ``batch`` is what a metric takes: predicted, true, reconstruction, image, arrays or tensors on any device. Label
    maps may be of small integers, and metrics get int64: ``predicted * 20 + true`` does not fit into a byte.

    Raises ValueError for a metric that returns another shape.
    """
    if not (found := names()):
        return {}
    import numpy as np

    arrays = [np.asarray(given.detach().cpu() if hasattr(given, "detach") else given) for given in batch]
    arrays[:2] = [labels.astype(np.int64) for labels in arrays[:2]]
    result = {}
    for name in found:
        values = np.asarray(load(name).score(*arrays), np.float64)
        if values.shape != (len(arrays[0]),):
            raise ValueError(f"metric {name} returned {values.shape} for {len(arrays[0])} images; return one per image")
        result[name] = values
    return result
