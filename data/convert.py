"""From published files, or drawn scenes, to Arrow shards: written once, then found in the cache.

python data/convert.py 'clevrtex:full-crop-(128,128)' --data-root ~/datasets [--cache DIR] [--verify]
"""

import argparse
import contextlib
import os
import pathlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # the checkout, in place of data/

from pyarrow import fs
from rich.console import Console

from data import conversion, integrity, places, plugins, shards, stop_signals, unchanged
from data.progress import Watched, say
from data.shards import ShardIndex
from data.source import Found, MissingDataset, local_folder, names
from data.spec import DataSpec, parse
from data.writing import Facts

DEFAULT_CACHE = places.HERE
PATIENCE = 2.0
"""Seconds after which a line says what takes so long."""
PLUGINS = "folder of your own with data/sources/NAME.py, which is found as if it were ours"
"""What the flag --plugins is, in all commands on data."""


def prepare(
    spec: DataSpec,
    *,
    root: str | None = None,
    cache: str | None = None,
    console: Console | None = None,
    only: str | None = None,
    relist: bool = False,
) -> ShardIndex:
    """The shards of ``spec``, from ``cache`` (a folder or URI) or converted into it now.

    ``root`` holds the published files; without it, the newest conversion in the cache is used. ``only`` names a split
    that is enough: of a variant that is complete and not in the cache, the others are not converted. Published files
    that look as at an earlier start are not listed again, unless ``relist`` asks for it.

    Raises ValueError for missing, unreadable or damaged files, MissingDataset among them, and for a ``spec`` without a
    size.
    """
    if spec.size is None:
        raise ValueError(f"{str(spec)!r} names no size; add one, as in '{spec.sized((128, 128))}'")
    console = console or Console(stderr=True)
    place, root = _place(cache), root and os.path.abspath(os.path.expanduser(local_folder(root)))
    try:
        index = _prepare(spec, spec.size, root, place, console, only, relist)
    except OSError as error:
        given = f"--data-root {root} and --cache {place}" if root else f"--cache {place}"
        raise ValueError(f"{spec} cannot be read ({error}); check that {places.shown(given)} can be used") from error
    for warning in index.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)
    return index


def _prepare(
    spec: DataSpec,
    size: tuple[int, int],
    root: str | None,
    cache: str,
    console: Console,
    only: str | None,
    relist: bool,
) -> ShardIndex:
    source = spec.source
    what = f"{spec.name}:{spec.variant}"
    looked = unchanged.now()
    if source.drawn:
        found = source.find(spec.variant, None)
    elif root is None:
        return _reuse(_newest(cache, spec, only, console))
    else:
        known = None if relist else unchanged.known_key(cache, what, root)
        if known and (there := _complete(cache, spec, only, known)):
            return _reuse(there)
        with _status(f"looking through {source.folder(spec.variant)} in {root}", console):
            found = source.find(spec.variant, root)
    there = _complete(cache, spec, only, found.key)
    index = _reuse(there) if there else _convert(spec, size, found, cache, console, only)
    if root is not None:
        unchanged.note(cache, what, root, found.key, found.state, looked)
    return index


def _convert(
    spec: DataSpec, size: tuple[int, int], found: Found, cache: str, console: Console, only: str | None
) -> ShardIndex:
    """The scenes that were ``found``, as shards in the cache."""
    source, folder = spec.source, _folder(cache, spec, found.key)
    with _status(f"counting the scenes of {spec}", console):
        warnings, counts = list(found.warnings), dict(found.counts)
    if only is not None and only not in counts:
        raise ValueError(f"{spec} has no split {only}; it has {', '.join(counts)}")
    count, official = sum(counts.values()), sum(source.counts(spec.variant).values())
    if only and count >= official:
        folder, counts = _folder(cache, spec, found.key, only), {only: counts[only]}
        count = official = counts[only]
    incomplete = found.incomplete or count < official
    if incomplete:
        share = f"{count:,} of the {official:,} published" if official else "fewer than the published"
        warnings.append(f"{spec} has {share} images; its results are not comparable with published ones")
    facts = Facts(str(spec), size, spec.crop, found.filters, incomplete, warnings)
    with Watched(f"{'drawing' if source.drawn else 'converting'} {spec}", count, console) as watched:
        try:
            return conversion.convert(
                found, list(counts), folder, facts, watched.advance, lambda line: say(console, line)
            )
        except shards.Unwritable as error:
            if others := ", ".join(info.base_name for info in _conversions(cache, spec)):
                raise shards.Unwritable(f"{error}; {others} there holds scenes of another version") from error
            raise


def _complete(cache: str, spec: DataSpec, only: str | None, key: str) -> str | None:
    """The folder with the shards of ``spec``, or of one split, from the files with ``key``. Raises ValueError."""
    folders = (_folder(cache, spec, key, split) for split in dict.fromkeys((only, None)))
    return next((folder for folder in folders if shards.exists(folder)), None)


def find(spec: DataSpec, cache: str | None = None) -> ShardIndex:
    """The newest conversion of ``spec`` in ``cache``; its shards are not looked at. Raises ValueError."""
    if spec.size is None:
        raise ValueError(f"{str(spec)!r} names no size; add one, as in '{spec.sized((128, 128))}'")
    return ShardIndex.load(_newest(_place(cache), spec, None, Console(stderr=True)))


def _reuse(folder: str) -> ShardIndex:
    """The index in ``folder``. Raises ValueError if one of its shards is missing or of another length."""
    index = ShardIndex.load(folder)
    index.verify(deep=False)
    return index


def _place(cache: str | None) -> str:
    """The cache folder, absolute, or its URI. Raises ValueError for one that does not answer."""
    cache = cache or DEFAULT_CACHE
    if "://" not in cache:
        return os.path.abspath(os.path.expanduser(cache))
    places.check(places.inside(cache))
    return places.inside(cache)


def _folder(cache: str, spec: DataSpec, key: str, only: str | None = None) -> str:
    """The place of the shards of ``spec``, or of one split of it, from the files with ``key``."""
    return places.inside(cache, f"{_stem(spec, only)}-{key}")


def _stem(spec: DataSpec, only: str | None = None) -> str:
    """The name of that place without the key at its end."""
    height, width = spec.size or (0, 0)
    return "-".join(filter(None, [spec.name, spec.variant, only, "crop" if spec.crop else None, f"{height}x{width}"]))


def _newest(cache: str, spec: DataSpec, only: str | None, console: Console) -> str:
    """The latest conversion of ``spec`` in the cache, or of one split. Raises MissingDataset if there is none.

    A line says which, where there are several, or where scenes of anybody's can have this name.
    """
    found = (_conversions(cache, spec, only) if only else []) or _conversions(cache, spec)
    if not found:
        wanted = spec.source.folder(spec.variant)
        raise MissingDataset(f"{spec} is not in {places.shown(cache)}; give --data-root the folder that holds {wanted}")
    newest = places.inside(cache, max(found, key=lambda info: _written(cache, info)).base_name)
    if len(found) > 1 or not spec.source.counts(spec.variant):
        others = f", the newest of {len(found)}" if len(found) > 1 else ""
        say(console, f"note: without --data-root, {spec} is {places.shown(newest)}{others}")
    return newest


def _written(cache: str, info: fs.FileInfo) -> int:
    """When a conversion was finished, in ns; folders on s3:// and the like have no time, files have."""
    if info.mtime_ns is not None:
        return info.mtime_ns
    files, path = places.filesystem(places.inside(cache, info.base_name, shards.INDEX))
    return files.get_file_info(path).mtime_ns or 0


def _conversions(cache: str, spec: DataSpec, only: str | None = None) -> list[fs.FileInfo]:
    """The folders in the cache with shards of ``spec``, or of one split, whatever the key at their ends.

    Raises ValueError where there is no other than one whose index is missing.
    """
    files, path = places.filesystem(cache)
    stem = _stem(spec, only)
    found, broken = [], None
    for info in files.get_file_info(fs.FileSelector(path, allow_not_found=True)):
        if info.base_name.startswith(f"{stem}-") and not info.base_name.endswith(".part"):
            try:
                if shards.exists(places.inside(cache, info.base_name)):
                    found.append(info)
            except ValueError as error:
                broken = error
    if broken and not found:
        raise broken
    return found


@contextlib.contextmanager
def _status(text: str, console: Console) -> Iterator[None]:
    """Show ``text`` while the block runs, if that takes longer than PATIENCE."""
    status = console.status(text)
    timer = threading.Timer(PATIENCE, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it might start the status after the stop
        status.stop()


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, as those of the other commands."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the flags\n")


@stop_signals.obeyed("stopped; nothing half-written is used, and the same command goes on")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 complete, 2 bad input, which one line names, 130 interrupted."""
    parser = Parser(
        prog="python data/convert.py",
        description="Convert a data set to Arrow shards.",
        epilog=f"Data sets: {', '.join(names())}.",
        allow_abbrev=False,
    )
    parser.add_argument("spec", help="e.g. 'clevrtex:full-crop-(128,128)' or 'synthetic:0.4-50000scenes-(64,64)'")
    parser.add_argument("--data-root", help="folder that holds the published files, e.g. the parent of clevrtex_full")
    parser.add_argument("--cache", help=f"folder or URI for the shards (default {DEFAULT_CACHE})")
    parser.add_argument("--verify", action="store_true", help="read every shard again; see data/verify.py")
    parser.add_argument("--relist", action="store_true", help="list published files though their folders look the same")
    parser.add_argument("--address", help="Ray cluster whose nodes convert, those that share all folders; e.g. auto")
    parser.add_argument("--plugins", help=PLUGINS)
    asked = parser.parse_args(arguments)
    console = Console(stderr=True)
    given = {"root": asked.data_root, "cache": asked.cache}
    try:
        plugins.use_if_given(asked.plugins)
        with _cluster(asked.address):
            index = prepare(parse(asked.spec), **given, console=console, relist=asked.relist)
        if asked.verify:
            return integrity.show(integrity.inspect(index, console))
    except ValueError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    for split, entries in index.splits.items():
        size = sum(shard.bytes for shard in entries) / 2**20
        print(f"{split:13} {index.counts[split]:7,} scenes  {len(entries):3} shards  {size:8.1f} MiB")
    print(f"{index.spec}  fingerprint {index.fingerprint[:16]}")
    print(places.shown(index.folder))
    return 0


def _cluster(address: str | None) -> contextlib.AbstractContextManager[None]:
    """A connection to the cluster at ``address`` if one is given."""
    if address is None:
        return contextlib.nullcontext()
    from data import converters

    return converters.connected(address)


if __name__ == "__main__":
    sys.exit(main())
