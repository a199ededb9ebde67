"""Scenes on their way from a data set into shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scenes:
    """Some scenes of one split, n of them, at one size."""

    index: NDArray[np.int64]  # (n,), number of the scene, different for each scene of the split
    images: NDArray[np.uint8]  # (n, H, W, 3)
    labels: NDArray[np.uint8]  # (n, H, W), 0 = background, 1.. = objects in the order of the metadata
    metadata: Sequence[Mapping[str, Any]]
    """Per scene ``ground_material`` and, in label order, ``objects`` with shape, size, material, color and rotation in
    degrees. A value is None where it is unknown or means nothing."""

    def __getitem__(self, some: slice) -> "Scenes":
        return Scenes(self.index[some], self.images[some], self.labels[some], self.metadata[some])


def joined(parts: Sequence[Scenes]) -> Scenes:
    """The scenes of ``parts``, one part at least, in order."""
    return Scenes(
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        [scene for part in parts for scene in part.metadata],
    )
