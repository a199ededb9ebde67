"""Files that are replaced in one step: a kill leaves the old file or the new one, never half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of a partial file beside ``path``; when the block ends, it becomes ``path``.

    After an exception in the block ``path`` is as before and the partial file is gone. A kill may leave the partial
    file, whose name ends in ``.partial``; the next call overwrites it. ``path`` has one writer at a time.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
