"""Batches from tables in shared memory: row numbers in, pixels out, copied once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor


class Split:
    """The scenes of one split, seen through views of the tables that hold them: no pixel is copied."""

    def __init__(self, tables: Sequence[pa.Table], rows: Sequence[NDArray[np.int64] | None] = ()) -> None:
        """All scenes of ``tables``, or of each those in ``rows``, (n,), if these are not None."""
        assert tables, "a split has at least one shard"
        chosen = [None] * len(tables) if not rows else rows
        self._tables = list(tables)
        self._images = [_view(table, "image") for table in tables]  # (n, H, W, 3) each
        self._labels = [_view(table, "label") for table in tables]  # (n, H, W) each
        local = [np.arange(len(i)) if r is None else r for i, r in zip(self._images, chosen, strict=True)]
        self._local = np.concatenate(local)  # row in its table, of each scene
        self._starts = np.cumsum([0, *map(len, local)])
        self.size: tuple[int, int] = self._images[0].shape[1:3]
        """(H, W) in pixels."""
        numbers = [table.column("index").to_numpy()[r] for table, r in zip(tables, local, strict=True)]
        self.index: NDArray[np.int64] = np.concatenate(numbers)
        """Number of each scene, by which its data set counts the scenes of a split, (n,)."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images (B, H, W, 3) and label maps (B, H, W) of ``rows``, (B,), as fresh arrays."""
        places = list(self._locate(rows))
        return _copied(self._images, places), _copied(self._labels, places)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """:meth:`gather` for images alone: label maps are not read, a quarter of a mapped file."""
        return _copied(self._images, list(self._locate(rows)))

    def metadata(self, row: int) -> dict[str, Any]:
        """``index``, ``ground_material`` and ``objects`` of a scene, see :class:`data.scenes.Scenes`."""
        ((shard, local),) = self._locate(np.array([row]))
        columns = self._tables[shard].select(["index", "ground_material", "objects"])
        return columns.slice(local, 1).to_pylist()[0]

    def _locate(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """For each of ``rows``, (B,), its shard and its row in that shard."""
        assert len(rows) == 0 or (rows.min() >= 0 and rows.max() < len(self)), "row outside the split"
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        return zip(shards.tolist(), self._local[rows].tolist(), strict=True)


def _view(table: pa.Table, column: str) -> NDArray[np.uint8]:
    """A column of tensors as one array, in place."""
    (chunk,) = table.column(column).chunks  # one, see ShardIndex.read
    return chunk.to_numpy_ndarray()


def _copied(views: Sequence[NDArray[np.uint8]], places: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """The scenes at ``places``, each a shard and a row of its view, as one fresh array."""
    copies = np.empty((len(places), *views[0].shape[1:]), np.uint8)
    for copy, (shard, row) in zip(copies, places, strict=True):
        copy[...] = views[shard][row]
    return copies


def as_tensors(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Images (B, H, W, 3) and label maps (B, H, W) as float32 (B, 3, H, W) in [0, 1] and int64 (B, H, W).

    They are moved to ``device`` as bytes and converted there.
    """
    return image_tensor(images, device), _moved(labels, device).long()


def image_tensor(images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """:func:`as_tensors` for images alone: training needs no labels."""
    pixels = _moved(images, device).permute(0, 3, 1, 2).contiguous()  # (B, 3, H, W), a sixth faster as bytes than later
    return pixels.to(torch.float32).div_(255)


def _moved(array: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """``array`` on ``device``. From page-locked memory a GPU fetches it while the host goes on."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Shuffle:
    """Endless shuffled row numbers. Every epoch has its own order, and a batch may reach into the next epoch.

    The state is three numbers, because an epoch's order is drawn from (seed, epoch) alone.
    """

    def __init__(self, length: int, batch_size: int, seed: int) -> None:
        assert length > 0 and batch_size > 0, (length, batch_size)
        self._length, self._batch_size, self._seed = length, batch_size, seed
        self._start(epoch=0, position=0)

    def next(self) -> NDArray[np.int64]:
        """The next ``batch_size`` row numbers, (B,)."""
        parts, wanted = [], self._batch_size
        while wanted:
            if self._position == self._length:
                self._start(self._epoch + 1, 0)
            parts.append(self._order[self._position : self._position + wanted])
            self._position += len(parts[-1])
            wanted -= len(parts[-1])
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, int]:
        """All that is needed to go on from here."""
        return {"epoch": self._epoch, "position": self._position, "seed": self._seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from the ``state`` of a :class:`Shuffle` over as many rows."""
        self._seed = state["seed"]
        self._start(state["epoch"], state["position"])

    def _start(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._order = np.random.default_rng([self._seed, epoch]).permutation(self._length)


def sequential(length: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """All row numbers once, in order, in batches of ``batch_size``, (B,); the last may be short."""
    for first in range(0, length, batch_size):
        yield np.arange(first, min(first + batch_size, length))
