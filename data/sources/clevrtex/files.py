"""Where the published files of a variant lie: in folders or in archives, however they were unpacked and named."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data.source import MissingDataset
from data.sources.clevrtex.archives import MOST_BYTES, Archive

ENDINGS = (".png", "_flat.png", ".json")
"""Of a scene's image, mask and description."""

_SPELLINGS = {"grassbg": "grassb[gd]"}  # a script on the web spells it with a d
_DEEPEST = 6
_MOST_FOLDERS = 10_000


class File(NamedTuple):
    """One published file."""

    path: str
    """Of the file; in an archive, its name there."""
    archive: Archive | None = None
    size: int = 0
    offset: int = 0

    @property
    def base(self) -> str:
        """The name without folders."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.path} in {self.archive.path}" if self.archive else self.path

    def __fspath__(self) -> str:
        assert self.archive is None
        return self.path

    @property
    def remedy(self) -> str:
        """What helps if the content is wrong."""
        return "download that archive again" if self.archive else "unpack its archive again"

    def read(self) -> bytes:
        """The content. Raises ValueError for a folder, pipe or device, which is not opened, or a giant; OSError."""
        if self.archive:
            return self.archive.read(self.offset, self.size)
        _refuse_special(os.stat(self.path))  # it may have become a pipe since it was listed, and opening one waits
        with open(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            _refuse_special(os.fstat(stream.fileno()))
            return stream.read(MOST_BYTES + 1)


@dataclass
class Listing:
    """What is there of one variant."""

    variant: str
    place: str
    """Where it was found, for messages."""
    scenes: dict[int, list[tuple[File, str] | None]] = field(default_factory=dict)
    """Number -> image, mask and description, each with a line that tells its states apart."""
    parts: set[int] = field(default_factory=set)
    """Numbers of the parts that names speak of."""
    unread: list[str] = field(default_factory=list)
    """Archives that lie beside unpacked files."""
    state: list[str] = field(default_factory=list)
    """The folders that were listed, or the archives that were read."""

    def add(self, match: re.Match[str], file: File, size: int, mtime_ns: int) -> None:
        """Note a file. Raises ValueError if it is there twice."""
        number, ending = int(match["number"]), match["ending"].lower()
        kind = ENDINGS.index(ending)
        trio = self.scenes.setdefault(number, [None, None, None])
        if there := trio[kind]:
            raise ValueError(f"scene {number} is there twice, {there[0]} and {file}; remove one")
        trio[kind] = (file, f"CLEVRTEX_{self.variant}_{number:06d}{ending} {size} {mtime_ns}\n")

    def unpacked(self, archives: Iterable[str], wanted: re.Pattern[str], named: re.Pattern[str]) -> "Listing":
        """With all that ``archives`` hold. Raises ValueError, OSError."""
        self.note_parts(named, archives)
        self.state += sorted(archives)
        for path in sorted(archives):
            archive = Archive(path, wanted)
            for member in archive.members:
                match = wanted.fullmatch(member.name.rpartition("/")[2])
                assert match
                self.add(match, File(member.name, archive, member.size, member.offset), member.size, member.mtime_ns)
        if not self.scenes:
            raise ValueError(f"{', '.join(archives)}: no CLEVRTEX_{self.variant}_NNNNNN.png in it; download it again")
        return self

    def note_parts(self, named: re.Pattern[str], paths: Iterable[str]) -> None:
        """Remember which parts ``paths`` are."""
        for path in paths:
            if (match := named.match(os.path.basename(path))) and match["part"]:
                self.parts.add(int(match["part"]))


def spelling(variant: str) -> str:
    """The pattern of the names that ``variant`` goes by."""
    return _SPELLINGS.get(variant, variant)


def listing(root: str, variant: str, others: Iterable[str]) -> Listing:
    """All files of ``variant`` below ``root``.

    ``root`` is a folder ``clevrtex_<variant>``, one that holds it, or its parts, or its archives, or one further up; or
    an archive. Case does not matter, nor how deep files are nested. Unpacked files go before archives. Folders of
    ``others``, the other variants, are not searched. Raises MissingDataset where there is nothing, ValueError for
    special or repeated files and damaged archives, OSError.
    """
    base = Path(root).expanduser()
    named = re.compile(rf"clevrtex_?{spelling(variant)}(?:[_-]?part_?(?P<part>\d+))?", re.I)
    packed = re.compile(rf"{named.pattern}\.(?:tar(?:\.gz)?|tgz)", re.I)
    wanted = re.compile(
        rf"clevrtex_?{spelling(variant)}_?(?P<number>\d{{6}})(?P<ending>{'|'.join(map(re.escape, ENDINGS))})", re.I
    )
    strange = re.compile(rf"(clevrtex_?)?(?:{'|'.join(map(spelling, others))})(?:\W.*|[_-]?part.*)?", re.I)
    nothing = MissingDataset(
        f"{base / f'clevrtex_{variant}'} does not exist; "
        f"give --data-root the folder that holds clevrtex_{variant} or its archives"
    )
    found = Listing(variant, str(base))
    other = bool((match := strange.fullmatch(base.name)) and match[1])
    try:
        if not stat.S_ISDIR(os.stat(base).st_mode):
            if other:
                raise nothing
            return found.unpacked([str(base)], wanted, named)
    except (FileNotFoundError, NotADirectoryError):
        raise nothing from None

    whole = bool(named.fullmatch(base.name))
    found.state += [] if whole else [str(base)]
    top = [] if whole else _entries(str(base))
    folders = [str(base)] if whole else [each.path for each in top if named.fullmatch(each.name) and _is_folder(each)]
    archives = [each.path for each in top if packed.fullmatch(each.name) and not _is_folder(each)]
    if not folders and not archives and other:
        raise nothing
    search = _files(folders, found.state) if folders else [] if archives else _files([str(base)], found.state, strange)
    for entry in search:
        if match := wanted.fullmatch(entry.name):
            state = entry.stat()
            found.add(match, File(entry.path), state.st_size, state.st_mtime_ns)
        elif packed.fullmatch(entry.name):
            archives.append(entry.path)
    if not found.scenes and archives:
        return found.unpacked(archives, wanted, named)
    if not found.scenes:
        if not folders:
            raise nothing
        raise ValueError(f"{folders[0]} holds no CLEVRTEX_{variant}_NNNNNN.png; unpack the archives into it")
    found.place, found.unread = folders[0] if len(folders) == 1 else found.place, archives
    found.note_parts(named, folders)
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _files(folders: list[str], listed: list[str], strange: re.Pattern[str] | None = None) -> Iterator[os.DirEntry[str]]:
    """All files below ``folders``; each is listed once, because every request to a network disk is slow, and noted.

    Links to folders are followed, but not in circles. With ``strange``, this is a search: not into folders of such
    names, hidden or linked ones, nor too deep or too long.
    """
    waiting = [(folder, 0) for folder in reversed(folders)]
    seen: set[tuple[int, int]] = set()
    while waiting and not (strange and len(seen) >= _MOST_FOLDERS):
        folder, depth = waiting.pop()
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        listed.append(folder)
        try:
            entries = _entries(folder)
        except PermissionError:
            if strange and depth:
                continue
            raise
        for entry in entries:
            if not _is_folder(entry):
                yield entry
            elif not strange or not (
                entry.is_symlink() or entry.name.startswith(".") or strange.fullmatch(entry.name) or depth >= _DEEPEST
            ):
                waiting.append((entry.path, depth + 1))


def _refuse_special(state: os.stat_result) -> None:
    """Raise ValueError unless this is a file that can be read."""
    kinds = {stat.S_ISDIR: "folder", stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"a {next((kind for test, kind in kinds.items() if test(state.st_mode)), 'device')}, no file")
    if state.st_size > MOST_BYTES:
        raise ValueError(f"{state.st_size:,} bytes, more than any published file")
