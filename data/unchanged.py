"""Whether published files are as they were at an earlier start, without a list of them all.

A folder's time changes when a file comes, goes or gets another name, not when its content is replaced in place. So the
times and sizes of some files are compared, too; ``--relist`` looks at all.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.atomic import replacing
from data.places import HERE, filesystem, is_remote

SETTLED = 2.0
"""Seconds that files must be older than a look: a change within a tick of the clock may not show in a time."""


def state_of(paths: Sequence[str]) -> list[list[Any]]:
    """Path, time and size of each of ``paths``. Raises OSError."""
    found = []
    for path in paths:
        info = os.stat(path)
        found.append([path, info.st_mtime_ns, info.st_size])
    return found


def known_key(cache: str, what: str, root: str) -> str | None:
    """The key under which the files of ``what`` in ``root`` were last found, if they still look as they did then."""
    try:
        noted = json.loads(_note(cache, what, root).read_bytes())
        if noted["state"] == state_of([entry[0] for entry in noted["state"]]):
            return noted["key"] if isinstance(noted["key"], str) else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass
    return None


def note(cache: str, what: str, root: str, key: str, state: Sequence[str], looked: float) -> None:
    """Remember the ``key`` of the files that ``state`` stands for, and that they were looked at from ``looked`` on.

    Nothing is remembered of files that have just changed, nor where the cache cannot be written. What a cache elsewhere
    was converted from is remembered on this machine.
    """
    if not state:
        return
    try:
        found = state_of(state)
        if max(changed for _, changed, _ in found) / 1e9 > looked - SETTLED:
            return
        path = _note(cache, what, root)
        if is_remote(cache):
            path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps({"key": key, "state": found}))
    except OSError:
        pass


def now() -> float:
    """Seconds by the clock that files are dated with."""
    return time.time()


def _note(cache: str, what: str, root: str) -> Path:
    name = hashlib.sha256(f"{what}\n{os.path.realpath(os.path.expanduser(root))}".encode()).hexdigest()[:12]
    folder = HERE if is_remote(cache) else filesystem(cache)[1]
    return Path(folder).expanduser() / f"found-{name}.json"
