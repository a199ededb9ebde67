"""From a data set as it was found to shards: in pieces, one per shard, that several processes take.

A piece has the same bytes whoever converts it, so neither their number nor a kill in between shows in the result.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from data import writing
from data.pieces import Piece, Work, lines_of, past_faults
from data.scenes import Scenes
from data.shards import ShardIndex, Unwritable
from data.source import Found
from data.writing import Facts, Written

FEW = 2000
"""Scenes that one process converts sooner than others would have started."""

_LISTED = 1000  # faults


class Unreadable(ValueError):
    """Scenes of a data set cannot be read; all of them are named."""


def convert(
    found: Found,
    splits: Sequence[str],
    folder: str,
    facts: Facts,
    watched: Callable[[int], None],
    say: Callable[[str], None],
) -> ShardIndex:
    """The scenes of ``splits`` as shards in ``folder``; ``watched`` gets the number of scenes of each step.

    Many scenes that can be read from anywhere are converted by all cores, and what is finished survives an interrupt.
    Raises Unwritable, Unreadable, and what the scenes raise.
    """
    counts = {split: found.counts[split] for split in splits}
    if found.some is None or sum(counts.values()) <= FEW:
        return _in_order(found, counts, folder, facts, watched, say)
    pieces = list(_pieces(counts, facts.rows))
    with writing.unfinished(folder, facts, say, keep=True) as part:
        if part is None:
            return ShardIndex.load(folder)
        if there := writing.records(part):
            say(f"going on from an earlier start: {there} of {len(pieces)} shards are there")
        from data import converters  # takes Ray, which takes a second

        done: dict[str, Written] = {}
        faults: dict[str, list[str]] = {}
        for piece, outcome in converters.outcomes(Work(found.some, facts, part), pieces, found.state, say):
            faults[piece.name] = outcome.faults
            if outcome.written:
                done[piece.name] = outcome.written
            watched(len(piece.places))
        _raise_if_any([line for piece in pieces for line in faults[piece.name]], sum(counts.values()))
        written = {split: [done[piece.name] for piece in pieces if piece.split == split] for split in counts}
        return writing.publish(folder, part, written, facts)


def _in_order(
    found: Found,
    counts: Mapping[str, int],
    folder: str,
    facts: Facts,
    watched: Callable[[int], None],
    say: Callable[[str], None],
) -> ShardIndex:
    """As :func:`convert`, by this process alone."""
    faults: list[str] = []
    last = list(counts)[-1]

    def watch(split: str) -> Iterator[Scenes]:
        batches = iter(found.scenes(split, facts.crop, facts.size))
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                if split == last:  # what is written is no whole set
                    _raise_if_any(faults, sum(counts.values()))
                return
            except ValueError as error:
                if not hasattr(error, "lines"):
                    raise
                faults.extend(lines_of(error))  # these batches go on past their faults
                continue
            yield batch
            watched(len(batch.index))

    try:
        return writing.write(folder, {split: watch(split) for split in counts}, facts, say)
    except (Unwritable, Unreadable):
        raise
    except ValueError:
        if found.some is None:
            raise
        faults.clear()
        for piece in _pieces(counts, facts.rows):  # what else is wrong?
            for _ in past_faults(found.some, piece, facts, faults):
                pass
        _raise_if_any(faults, sum(counts.values()))
        raise


def _pieces(counts: Mapping[str, int], rows: int) -> Iterator[Piece]:
    """What to convert, a shard each."""
    for split, count in counts.items():
        for number, first in enumerate(range(0, count, rows)):
            yield Piece(split, number, range(first, min(first + rows, count)))


def _raise_if_any(faults: Sequence[str], scenes: int) -> None:
    """Raise Unreadable with all ``faults``, if there are any."""
    faults = list(dict.fromkeys(faults))  # of one cause, such as a size that cannot be, all scenes say the same
    if len(faults) == 1:
        raise Unreadable(faults[0])
    if faults:
        listed = [*faults[:_LISTED], *([f"and {len(faults) - _LISTED:,} more"] if len(faults) > _LISTED else [])]
        raise Unreadable("\n  ".join([f"{len(faults):,} faults in {scenes:,} scenes:", *listed]))
