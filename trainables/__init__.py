"""What is trained: the models, found by name, and the one Tune trainable they share (``trainables.trainable``).

A model is a module (or package) of the same name here and in ``search_spaces``; nothing is registered. Models are
imported when they are built: the command line asks for their names, and must not wait for torch.

A model of one's own needs no change here: a folder on PYTHONPATH with ``trainables/NAME.py`` and
``search_spaces/NAME.py`` is found, too.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trainables import typed_config

if TYPE_CHECKING:
    from trainables.model import SegmentationModel

__path__[:] = pkgutil.extend_path(__path__, __name__)

PUBLISHED_NAMES = {
    "slota": "slot_attention",
    "genesisv2": "genesis_v2",
    "dtisprites": "dti_sprites",
    "effmorl": "efficient_morl",
    "marionet": "marionette",
}
"""The published scripts' names where they differ from ours."""


def names() -> list[str]:
    """The models there are, sorted: modules that exist both here and in ``search_spaces``."""
    spaces = importlib.util.find_spec("search_spaces")
    assert spaces is not None and spaces.submodule_search_locations is not None
    everywhere = pkgutil.extend_path(spaces.submodule_search_locations, "search_spaces")
    searched = {module.name for module in pkgutil.iter_modules(everywhere)}
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name in searched)


def resolve(name: str) -> str:
    """Our name of a model, given ours or the published scripts'. Raises ValueError with close matches."""
    ours = PUBLISHED_NAMES.get(name, name)
    if ours not in names():
        close = difflib.get_close_matches(name, [*names(), *PUBLISHED_NAMES], n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names())}"
        raise ValueError(f"model {name!r} is unknown; {remedy}")
    return ours


def load(name: str) -> ModuleType:
    """The model's module, which has ``Config`` and ``Model``. Raises ValueError for an unknown name."""
    return importlib.import_module(f"trainables.{resolve(name)}")


def build(name: str, config: Mapping[str, Any], image_size: int) -> "SegmentationModel":
    """A freshly initialised model for square images of ``image_size`` pixels.

    ``config`` maps hyperparameters to values; missing keys take the defaults of the model's ``Config``. Raises
    ValueError for an unknown model, key or value, or an ``image_size`` that the model cannot take.
    """
    if image_size < 1:
        raise ValueError(f"image size {image_size} must be above zero")
    module = load(name)
    model: SegmentationModel = module.Model(typed_config.make(module.Config, config), image_size)
    return model
