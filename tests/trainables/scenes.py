"""A few embedded scenes, as the models and the training loop want them."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data.loader import Split, as_tensors
from tests.data.sources.drawn import generate


def split(count: int, size: int) -> Split:
    """``count`` scenes of ``size`` pixels."""
    drawn = generate(count, (size, size), seed=0, strength=0.0)
    table = pa.table(
        {
            "index": pa.array(np.arange(count)),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(drawn.images),
            "label": pa.FixedShapeTensorArray.from_numpy_ndarray(drawn.labels),
        }
    )
    return Split([table])


def images(count: int, size: int) -> Tensor:
    """The images of :func:`split`, (B, 3, H, W)."""
    return as_tensors(*split(count, size).gather(np.arange(count)), torch.device("cpu"))[0]
