"""A part of a data set's conversion: the scenes of one shard, which any process turns into the same bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data import index_file, writing
from data.scenes import Scenes
from data.writing import Facts, Written

_AT_ONCE = 64  # scenes; of so many that cannot be read together, each is tried alone

Some = Callable[[str, bool, tuple[int, int], range], Iterator[Scenes]]
"""See :class:`data.source.Found`."""


@dataclass(frozen=True)
class Piece:
    """The scenes of one shard."""

    split: str
    number: int
    places: range
    """Of its scenes in the split."""

    @property
    def name(self) -> str:
        """The file's name."""
        return index_file.shard_name(self.split, self.number)


@dataclass(frozen=True)
class Outcome:
    """What became of a piece."""

    written: Written | None
    """None if some of its scenes cannot be read."""
    faults: list[str]
    """Why not, a line per scene."""


@dataclass(frozen=True)
class Work:
    """All that a process needs to convert any piece; it can be sent to another one."""

    some: Some
    facts: Facts
    folder: str
    """Where shards are written until all are there."""

    def convert(self, piece: Piece) -> Outcome:
        """Write the shard of ``piece``, unless it is there already or scenes cannot be read. Raises OSError."""
        digest = self.facts.digest
        if before := writing.recorded(self.folder, piece.name, len(piece.places), digest):
            return Outcome(before, [])
        faults: list[str] = []
        batches = past_faults(self.some, piece, self.facts, faults)
        scenes = writing.gathered(batches, len(piece.places), self.facts.size)
        if faults:
            return Outcome(None, faults)
        assert len(scenes.index) == len(piece.places), f"{piece} has {len(scenes.index)} scenes"
        written = writing.write_shard(self.folder, piece.name, scenes)
        writing.record(self.folder, written, digest)
        return Outcome(written, [])


def past_faults(some: Some, piece: Piece, facts: Facts, faults: list[str]) -> Iterator[Scenes]:
    """The scenes of ``piece`` that can be read; ``faults`` gets a line for each of the others."""
    first, stop = piece.places.start, piece.places.stop
    while first < stop:
        try:
            for batch in some(piece.split, facts.crop, facts.size, range(first, stop)):
                first += len(batch.index)
                yield batch
            return
        except ValueError:
            pass  # one of the next scenes, or several
        last = min(first + _AT_ONCE, stop)
        for place in range(first, last):
            try:
                yield from list(some(piece.split, facts.crop, facts.size, range(place, place + 1)))
            except ValueError as error:
                faults += lines_of(error)
        first = last


def lines_of(error: ValueError) -> list[str]:
    """A message per file, of an error that names several, see :class:`data.source.Damaged`; else its only one."""
    return list(getattr(error, "lines", None) or str(error).splitlines())
