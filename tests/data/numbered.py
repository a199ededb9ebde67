"""Scenes that tell their number, for tests of what holds them."""

import numpy as np

from data.scenes import Scenes


def scenes(start: int, count: int, size: tuple[int, int] = (4, 6)) -> Scenes:
    """Scenes whose pixels tell their number."""
    index = np.arange(start, start + count)
    metadata = [
        {
            "ground_material": None if i % 2 else f"ground {i}",
            "objects": [{"shape": "cube", "size": "large", "material": "wood", "color": None, "rotation": 1.5 * i}]
            * (i % 4),
        }
        for i in index
    ]
    images = np.broadcast_to(index.astype(np.uint8)[:, None, None, None], (count, *size, 3)).copy()
    return Scenes(index, images, images[..., 0] + 1, metadata)
