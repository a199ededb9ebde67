"""What a data set says about itself.

A data set is a module in ``data/sources`` with a class ``Source(DataSource)``; nothing is registered. All that differs
between data sets is said there: this module, specs, conversion and studies know none of them by name.

Importing this module is cheap. ``names`` imports no data set and ``load`` imports one, so that a command line with a
mistake is answered at once.
"""

import abc
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from data import sources

if TYPE_CHECKING:  # takes numpy
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from data.scenes import Scenes

DEFAULT = "synthetic"
"""The data set of a study that names none: it needs no files."""

EVERYTHING = "all"
"""In place of a split: all scenes of all splits."""


class MissingDataset(ValueError):
    """The files of a data set or variant are not there."""


class Damaged(ValueError):
    """Files that are not what they should be; the message names the first."""

    def __init__(self, files: Sequence[tuple[str, str]], remedy: str, sound: "Scenes | None" = None):
        """``files`` has each file and what is wrong with it, as in ("0.png", "is damaged (it ends at byte 7)")."""
        super().__init__(files, remedy, sound)
        self.files = list(files)
        self.remedy = remedy
        """What to do about them, without a full stop."""
        self.sound = sound
        """The other scenes of the batch in which they were met, in order; None without any."""

    def __str__(self) -> str:
        (first, wrong), others = self.files[0], len(self.files) - 1
        more = f" (and {others:,} more files are not in order)" if others else ""
        return f"{first} {wrong}{more}; {self.remedy}"

    @property
    def lines(self) -> list[str]:
        """A message per file."""
        return [f"{file} {wrong}; {self.remedy}" for file, wrong in self.files]


class FinalSplit(NamedTuple):
    """A split that the final stage of a study scores."""

    name: str
    """``test``, ``outd``, ``camo``, or ``camo_textured``; on a curve, what stands at the axis."""
    split: str
    """Where it lies: a split of ``variant``, or ``all``."""
    variant: str | None = None
    """None is the one that was trained on."""
    data: str | None = None
    """Another data set that has ``variant``; None is the one that was trained on."""


@dataclass(frozen=True)
class Found:
    """One variant of a data set as it is on this machine: all that its conversion needs."""

    key: str
    """Ends the name of the converted folder: a version for drawn scenes, a hash of the state of published files.
    Shards are found again by it, so it must change when the scenes do."""
    counts: Mapping[str, int]
    """Scenes per split, in the order in which the splits are stored; may be counted when it is first asked."""
    scenes: Callable[[str, bool, tuple[int, int]], Iterator["Scenes"]]
    """(split, whether to crop, (H, W) in pixels) -> the scenes of that split, in order, in batches of any size. Raises
    ValueError for a damaged file or a size that cannot be. Where that is Damaged, the iterator is still good: the next
    batch is what follows the one with these files."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """How ``image`` and ``label`` are resized; empty where scenes are drawn at their size."""
    warnings: Sequence[str] = ()
    """What a reader of results should know about these scenes, one line each."""
    incomplete: bool = False
    """Whether there are fewer scenes than published, where official counts cannot tell."""
    some: Callable[[str, bool, tuple[int, int], range], Iterator["Scenes"]] | None = None
    """As ``scenes``, for the scenes of a split at the places that a range without gaps names. With it several processes
    convert a large set, each its part; it is sent to them. None where scenes can only be read in order."""
    state: Sequence[str] = ()
    """Folders and files whose times and sizes change when the scenes do, as far as one can see without looking at every
    file: a start that finds them unchanged does not call ``find`` again. Empty where that cannot be said."""


def local_folder(root: str) -> str:
    """``root``, which must be on a disk. Raises ValueError with the remedy for a URI."""
    if "://" in root:
        raise ValueError(
            f"--data-root {root} is not on a disk; published files are read from a folder: mount it or copy it to one, "
            "convert once with --cache (which may be on s3:// or gs://), then give that --cache alone"
        )
    return root


class DataSource(abc.ABC):
    """The facts about a data set, and the way to its scenes.

    A subclass must say ``max_objects`` and ``find``; the rest has defaults.
    """

    drawn: bool = False
    """Whether each machine draws the scenes itself: they need no files, and may differ between machines in the last
    bit, so that their fingerprints are not compared."""
    version: int | None = None
    """Of scenes that are drawn: it changes when any pixel does."""
    variants: tuple[str, ...] = ("",)
    """What may stand after the colon of a spec, the default first; ``("",)`` where there is nothing to choose."""
    aliases: tuple[str, ...] = ()
    """Other names under which people know the data set."""
    takes_crop: bool = False
    """Whether a spec may ask for the central square with ``-crop``."""
    final_splits: tuple[FinalSplit, ...] = (FinalSplit("test", "test"),)
    """What the final stage scores; of the variant that was trained on, the splits that it has."""

    curve_axis: str = "variant"
    """What differs along :meth:`curve`."""

    @property
    def name(self) -> str:
        """The name of the file."""
        return type(self).__module__.rpartition(".")[2]

    def variant(self, text: str) -> str:
        """The canonical form of the variant ``text``, which is in lower case. Raises ValueError if there is none."""
        if text not in self.variants:
            there = ", ".join(filter(None, self.variants)) or "no variants"
            raise ValueError(f"variant {text!r} is unknown; {self.name} has {there}")
        return text

    def with_scenes(self, variant: str, scenes: int) -> str:
        """The variant that is ``variant`` with ``scenes`` scenes to train on.

        Its name may end with a dash and ``scenes`` as a part of a spec, ``Nscenes``. Raises ValueError, as where there
        is nothing to choose.
        """
        raise ValueError(f"{self.name} has a fixed number of scenes; leave out --scenes, or {scenes}scenes in the spec")

    def counts(self, variant: str) -> Mapping[str, int]:
        """Official number of scenes per split; empty where it is not known without the files.

        With fewer scenes than that, a conversion is marked as incomplete and says so.
        """
        return {}

    def curve(self, variant: str) -> tuple[FinalSplit, ...]:
        """The splits on which the winner of a study on ``variant`` shows what else it bears, from easy to hard.

        Names that are numbers are places on an axis. The ``variant`` of the one that was trained on is None.
        """
        return ()

    def folder(self, variant: str) -> str:
        """The folder with the published files of ``variant``, which ``--data-root`` holds."""
        return f"{self.name}_{variant}" if variant else self.name

    def fitted(self, picture: "Image.Image", crop: bool, size: tuple[int, int]) -> "NDArray[np.uint8]":
        """A ``picture`` in RGB from elsewhere at ``size`` = (H, W), (H, W, 3), cropped and resized as its own scenes.

        By default the central region with the shape of ``size``.
        """
        import numpy as np
        from PIL import Image

        from data import picture_files

        return np.asarray(picture_files.central(picture, crop, size, Image.Resampling.BILINEAR))

    @abc.abstractmethod
    def max_objects(self, variant: str) -> int:
        """Most objects that a scene can have, known without the files."""

    @abc.abstractmethod
    def find(self, variant: str, root: str | None) -> Found:
        """The scenes of ``variant``; ``root`` is the folder that holds its files, None where they are drawn.

        No pixel is read yet. Raises MissingDataset where the files are not there, ValueError where some of them are
        missing or wrong, OSError.
        """


def names() -> list[str]:
    """The data sets there are, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(sources.__path__))


def load(name: str) -> DataSource:
    """The data set that has ``name`` for a name or alias. Raises ValueError with close matches."""
    there = names()
    if name in there:
        return importlib.import_module(f"{sources.__name__}.{name}").Source()
    known = [load(each) for each in there]
    for source in known:
        if name in source.aliases:
            return source
    close = difflib.get_close_matches(name, [*there, *(alias for source in known for alias in source.aliases)], 3, 0.5)
    remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(there)}"
    raise ValueError(f"data set {name!r} is unknown; {remedy}")
