"""A data set of a folder of one's own: the embedded scenes, but few, for tests that wait for every image."""

from pathlib import Path

TRAIN, IMAGES = 400, 60
"""Images to train on, and of every other split."""

DATA = "few:plain-(32,32)"

SOURCE = f"""
from data.sources import synthetic


class Source(synthetic.Source):
    def counts(self, variant):
        return {{split: {TRAIN} if split == "train" else {IMAGES} for split in super().counts(variant)}}
"""


def flags(folder: Path) -> list[str]:
    """The data set is written below ``folder``; the flags of ``study/run.py`` that choose it."""
    path = folder / "data" / "sources" / "few.py"
    if not path.exists():  # a study may be reading it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE)
    return ["--data", DATA, "--plugins", str(folder)]
