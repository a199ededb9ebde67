"""Data at size: ``python -m tests.benchmarks.data [--scenes N] [--mapped MIB] [--folder DIR]``, about two minutes.

Published scenes are hard links of the few in tests/data. They are converted at 128x128 by one process and by two,
loaded, and read by trials; batches are compared with those of a torch DataLoader on PNGs with the same pixels. Then
random images that are larger than Ray's store are read from mapped files. Times of one core are its CPU time, which a
busy machine changes less than the clock's; what is compared is measured in the same run.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from data import conversion, store, unchanged
from data.convert import prepare
from data.loader import Shuffle, Split, as_tensors, image_tensor, sequential
from data.scenes import Scenes
from data.shards import ShardIndex
from data.sources import clevrtex
from data.spec import parse
from data.writing import Facts, write
from tests.data.sources.published import add_scene
from trainables import freed_memory

ROOT = Path(__file__).resolve().parents[2]
FEW = ROOT / "tests" / "data" / "clevrtex" / "clevrtex_full" / "0"
SPEC = parse("clevrtex:full-crop-(128,128)")
STORE = 400 * 2**20
BATCH = 64
PNGS = 512


def main() -> None:
    """Run all parts and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=3000, help="published scenes (default 3000)")
    parser.add_argument("--mapped", type=int, default=1024, help="MiB of images above the store of 400 (default 1024)")
    parser.add_argument("--folder", help="where files lie meanwhile (default: the system's place for such)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    freed_memory.keep()  # as a trial does
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {asked.scenes:,} scenes", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        folder = Path(place)
        index = convert(folder, asked.scenes)
        with cluster(cpus=2, store=max(STORE, 2 * sum(shard.bytes for shard in index.shards("all")))):
            refs = load(index)
            readers(index, refs)
            split = store.open_split(refs)
            batches(split, folder)
            epochs(split)
            del refs, split
        above(folder, asked.mapped)


@contextlib.contextmanager
def cluster(cpus: int, store: int) -> Iterator[None]:
    """Ray with ``cpus`` and an object store of ``store`` bytes."""
    ray.init(
        address="local",
        num_cpus=cpus,
        object_store_memory=store,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
    )
    try:
        yield
    finally:
        ray.shutdown()


def publish(folder: Path, scenes: int) -> Path:
    """Published files of ``scenes`` scenes, the pictures hard links of the few; returns the root."""
    few = len(list(FEW.glob("*_??????.png")))
    published = folder / "root" / "clevrtex_full"
    shutil.copytree(FEW, published / "0")
    for number in range(few, scenes):
        add_scene(published, number % few, number)
    time.sleep(2 * unchanged.SETTLED)
    return folder / "root"


def convert(folder: Path, scenes: int) -> ShardIndex:
    """Convert with one process and with two; then start again twice, listing files and not."""
    root = publish(folder, scenes)
    conversion.FEW = 0
    found = {}
    for processes in (1, 2):
        with cluster(cpus=processes, store=STORE // 4):
            ray.get([ray.remote(warm).remote() for _ in range(2 * processes)])
            cpu, wall = workers_cpu(), time.perf_counter()
            found[processes] = prepare(SPEC, root=str(root), cache=str(folder / f"cache-{processes}"), console=QUIET)
            wall, cpu = time.perf_counter() - wall, workers_cpu() - cpu
            peak = max(kibibytes(pid, "VmHWM") for pid in workers()) / 1024
        print(
            f"conversion, {processes} processes: {scenes / wall:.0f} images/s, {scenes / cpu:.0f} a second of CPU, "
            f"{peak:.0f} MiB the largest process",
            flush=True,
        )
    same = found[1].fingerprint == found[2].fingerprint
    print(f"both have the same bytes: {same}; of the folder's 2 copies one is deleted")
    shutil.rmtree(found[1].folder)
    for relist in (True, False):
        seconds = timed(
            lambda relist=relist: prepare(
                SPEC, root=str(root), cache=str(folder / "cache-2"), console=QUIET, relist=relist
            )
        )
        print(
            f"second start, {'all files listed' if relist else 'by its note   '}: {seconds * 1000:.0f} ms of CPU time"
        )
    return found[2]


QUIET = Console(file=io.StringIO())


def warm() -> None:
    """Import what a conversion imports."""
    import data.pieces
    import data.sources.clevrtex  # noqa: F401

    time.sleep(0.5)


def workers() -> list[int]:
    """The worker processes of this cluster."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if "ray::" in (path / "stat").read_text() and os.getpid() in ancestors(int(path.name)):
                found.append(int(path.name))
    return found


def workers_cpu() -> float:
    """Seconds of CPU time that the worker processes have taken."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in workers()]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def kibibytes(pid: int | str, field: str) -> int:
    """A number of ``/proc/PID/status``."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) if match else 0


def ancestors(pid: int) -> list[int]:
    """The process ``pid``, its parent, and so on."""
    found = []
    while pid > 1:
        found.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def timed(call: Callable[[], Any]) -> float:
    """Seconds of CPU time that ``call`` takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def load(index: ShardIndex) -> list[ray.ObjectRef]:
    """Load all shards into the store."""
    start = time.perf_counter()
    refs = store.load(index, ["all"])["all"]
    seconds, size = time.perf_counter() - start, sum(shard.bytes for shard in index.shards("all"))
    print(f"loading, checksums included: {seconds:.1f} s for {size / 2**20:.0f} MiB", flush=True)
    return refs


@ray.remote(num_cpus=0)
class Reader:
    """Reads as a trial does."""

    def __init__(self) -> None:
        freed_memory.keep()
        image_tensor(np.zeros((1, 4, 4, 3), np.uint8), "cpu")

    def grown(self, refs: list[ray.ObjectRef], batches: int) -> int:
        """Private memory in bytes that opening ``refs`` and reading ``batches`` takes."""
        before = private()
        split = store.open_split(refs)
        shuffle = Shuffle(len(split), BATCH, seed=0)
        for _ in range(batches):
            images, labels = split.gather(shuffle.next())
        del images, labels
        return private() - before


def private() -> int:
    """Bytes of memory that this process shares with none."""
    return kibibytes("self", "RssAnon") * 1024


def readers(index: ShardIndex, refs: list[ray.ObjectRef]) -> None:
    """What further trials cost in memory."""
    size = sum(shard.bytes for shard in index.shards("all"))
    actors = [Reader.remote() for _ in range(3)]  # type: ignore[attr-defined]
    grown = [ray.get(actor.grown.remote(refs, 2 * index.rows("all") // BATCH)) for actor in actors]
    shown = ", ".join(f"{each / 2**20:.0f} MiB ({each / size:.1%})" for each in grown)
    print(f"private memory of three readers after two epochs: {shown} of {size / 2**20:.0f} MiB", flush=True)


class Pngs(Dataset):
    """Images and label maps from PNGs of 128x128 pixels, or from the published files, which are cropped and resized."""

    def __init__(self, images: list[Path], published: bool, floats: bool) -> None:
        self._images, self._published, self._floats = images, published, floats

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        path = self._images[row]
        if self._published:
            image, label, _ = clevrtex.read(path, True, (128, 128))
        else:
            image, label = np.array(Image.open(path)), np.array(Image.open(clevrtex.mask_of(path)))
        if not self._floats:
            return torch.from_numpy(image), torch.from_numpy(label)
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255), torch.from_numpy(label.astype(int))


def batches(split: Split, folder: Path) -> None:
    """A shuffled batch of 64 by one core, beside those of a DataLoader."""
    count = min(PNGS, len(split))
    (folder / "pngs").mkdir()
    small = [folder / "pngs" / f"{row}.png" for row in range(count)]
    for row, path in enumerate(small):
        images, labels = split.gather(np.array([row]))
        Image.fromarray(images[0]).save(path)
        Image.fromarray(labels[0]).save(clevrtex.mask_of(path))
    published = clevrtex.find(str(folder / "root"), "full").images[:count]
    loaders = {
        name: iter(DataLoader(pngs, BATCH, shuffle=True, drop_last=True))
        for name, pngs in {
            "bytes": Pngs(small, published=False, floats=False),
            "floats": Pngs(small, published=False, floats=True),
            "floats from the published PNGs": Pngs(published, published=True, floats=True),
        }.items()
    }
    first = [timed(lambda rows=rows: split.gather(rows)) for rows in sequential(len(split), BATCH)]
    shuffle = Shuffle(len(split), BATCH, seed=0)
    ways: dict[str, Callable[[], Any]] = {
        "bytes, as they go to a GPU": lambda: split.gather(shuffle.next()),
        "images as floats": lambda: image_tensor(split.gather(shuffle.next())[0], "cpu"),
        "floats and labels": lambda: as_tensors(*split.gather(shuffle.next()), "cpu"),
        "such tensors of one value": lambda: (
            torch.full((BATCH, 3, 128, 128), 0.5),
            torch.full((BATCH, 128, 128), 1),
        ),
    }
    theirs: dict[str, list[float]] = {name: [] for name in loaders}
    ours: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count // BATCH):
        for name, loader in loaders.items():
            theirs[name].append(timed(lambda loader=loader: next(loader)))
        for _ in range(8):
            for name, way in ways.items():
                ours[name].append(timed(way))
    references = {name: float(np.median(times)) for name, times in theirs.items()}
    for name, seconds in references.items():
        print(f"batch of {BATCH} by a DataLoader, {name:30}: {seconds * 1000:6.1f} ms of CPU time")
    for name, times in {"bytes, in the first epoch": first, **ours}.items():
        seconds = float(np.median(times))
        ratios = ", ".join(f"{reference / seconds:.0f} times {other}" for other, reference in references.items())
        print(f"batch of {BATCH} from shards, {name:26}: {seconds * 1000:6.2f} ms of CPU time, {ratios}", flush=True)


def epochs(split: Split) -> None:
    """Three epochs see every scene three times."""
    shuffle, seen = Shuffle(len(split), BATCH, seed=1), np.zeros(len(split), int)
    left = 3 * len(split)
    while left > 0:
        rows = shuffle.next()[:left]
        np.add.at(seen, rows, 1)
        left -= len(rows)
    print(f"three epochs saw every scene three times: {bool((seen == 3).all())}")


def above(folder: Path, mebibytes: int) -> None:
    """Batches of images that Ray's store has no room for."""
    count, side = mebibytes * 2**20 // (4 * 128 * 128), 128

    def scenes() -> Iterator[Scenes]:
        rng = np.random.default_rng(0)
        for first in range(0, count, 500):
            rows = np.arange(first, min(first + 500, count))
            images = rng.integers(0, 256, (len(rows), side, side, 3), np.uint8)
            yield Scenes(rows, images, images[..., 0] % 2, [{"ground_material": None, "objects": []}] * len(rows))

    index = write(str(folder / "large"), {"train": scenes()}, Facts("random", (side, side)))
    said = io.StringIO()
    with cluster(cpus=2, store=STORE):
        start = time.perf_counter()
        refs = store.load(index, ["train"], console=Console(file=said, width=200))["train"]
        seconds = time.perf_counter() - start
        print(f"{mebibytes} MiB with a store of {STORE >> 20}: {said.getvalue().strip()}; checked in {seconds:.1f} s")
        split = store.open_split(refs)
        shuffle, expected = (
            Shuffle(len(split), BATCH, seed=0),
            Split([index.read(s) for s in index.shards("train")[:1]]),
        )
        same = np.array_equal(split.gather(np.arange(64))[0], expected.gather(np.arange(64))[0])
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(len(split) // BATCH):
            split.gather(shuffle.next())
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        rate = len(split) // BATCH / wall
        print(
            f"an epoch of mapped batches: {rate:.0f} a second, {cpu * 1000 / (len(split) // BATCH):.2f} ms of CPU each"
        )
        reader = Reader.remote()  # type: ignore[attr-defined]
        grown = ray.get(reader.grown.remote(refs, len(split) // BATCH))
        print(f"private memory of a reader of mapped shards: {grown / 2**20:.0f} MiB; the same pixels: {same}")


if __name__ == "__main__":
    main()
