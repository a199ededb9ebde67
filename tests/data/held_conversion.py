"""``data/convert.py`` on few scenes, as if they were many: ``python -m tests.data.held_conversion GO ARGUMENTS``.

Each shard holds two scenes, and those of ``train`` from the fifth scene on wait until the file ``GO`` is there. Each
host that converts leaves a file ``GO.HOST``.
"""

import dataclasses
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from data import conversion, convert, writing
from data.scenes import Scenes
from data.source import Found
from data.sources import clevrtex

SHARD_BYTES = 4 * 32 * 32 * 2


def main(go: str) -> int:
    conversion.FEW, writing.SHARD_BYTES = 0, SHARD_BYTES
    find = clevrtex.Source.find

    def held(self: clevrtex.Source, variant: str, root: str | None) -> Found:
        found = find(self, variant, root)

        def some(split: str, crop: bool, size: tuple[int, int], places: range) -> Iterator[Scenes]:
            Path(f"{go}.{socket.gethostname()}").touch()
            while split == "train" and places.start >= 4 and not os.path.exists(go):
                time.sleep(0.05)
            assert found.some is not None
            return found.some(split, crop, size, places)

        return dataclasses.replace(found, some=some)

    clevrtex.Source.find = held  # type: ignore[method-assign]
    return convert.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv.pop(1)))
