"""What a model sees in pictures from anywhere: files -> images as in training -> segments -> pictures for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data import atomic, picture_files
from data.spec import DataSpec
from trainables import metrics, pictures
from trainables.model import SegmentationModel
from trainables.scoring import images_per_block, judged

COLUMNS = ("input", "reconstruction", "segments", "overlay")
LARGEST = 64
"""Rows of the contact sheet, at most."""


@dataclass(frozen=True)
class Prediction:
    """What a model made of one picture."""

    path: Path
    image: NDArray[np.uint8]
    """(H, W, 3), as the model saw it"""
    reconstruction: NDArray[np.uint8]
    """(H, W, 3)"""
    labels: NDArray[np.uint8]
    """(H, W): the slot of each pixel; 0 is the background where the model has one"""


def files(paths: Sequence[Path]) -> list[Path]:
    """The files in ``paths``; of a folder, those whose names end as pictures do. Raises ValueError if there is none."""
    found = []
    for path in paths:
        if path.is_dir():
            endings = Image.registered_extensions()
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in endings and file.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path} is no file or folder; name pictures to segment")
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: no picture there; give PNG, JPEG, TIFF or WebP files")
    return found


def read_picture(path: Path, spec: DataSpec, size: int) -> NDArray[np.uint8]:
    """The picture in ``path`` as uint8 (size, size, 3), cropped and resized as the images of ``spec`` are.

    Grey, palette, transparent, turned (EXIF) and 16-bit pictures are read; transparency is dropped. Raises ValueError
    for what is no picture.
    """
    try:
        picture = picture_files.eight_bit(picture_files.opened(path))
    except ValueError as error:
        raise ValueError(f"{path} {error}; give PNG, JPEG, TIFF or WebP files") from error
    return spec.source.fitted(picture, spec.crop, (size, size))


def predict(model: SegmentationModel, paths: Sequence[Path], spec: DataSpec, step: int) -> Iterator[Prediction]:
    """What ``model`` makes of the pictures in ``paths``, in their order. Raises ValueError."""
    at_a_time = images_per_block(model.image_size)
    for start in range(0, len(paths), at_a_time):
        chosen = paths[start : start + at_a_time]
        images = np.stack([read_picture(path, spec, model.image_size) for path in chosen])  # (B, H, W, 3)
        with judged(model) as device:
            output = model(torch.as_tensor(images).permute(0, 3, 1, 2).to(device) / 255, step)
            labels, _ = metrics.harden(output.masks.float())  # (B, H, W)
            seen = output.reconstruction.float().clamp(0, 1).nan_to_num()
        reconstruction = (seen * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for path, image, back, label in zip(chosen, images, reconstruction, np.asarray(labels), strict=True):
            yield Prediction(path, image, back, label.astype(np.uint8))


def write(predictions: Sequence[Prediction], folder: Path) -> list[Path]:
    """Write label maps, overlays and a contact sheet to ``folder``; returns the paths.

    ``NAME_labels.png`` is a palette PNG whose indices are the labels. Pictures of one name from several folders are
    numbered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written, rows, used = [], [], set[str]()
    for prediction in predictions:
        stem, i = prediction.path.stem, 1
        while stem in used:
            i += 1
            stem = f"{prediction.path.stem}_{i}"
        used.add(stem)
        colours = pictures.palette(256)
        labels = Image.fromarray(prediction.labels)
        labels.putpalette(colours.tobytes())
        overlay = overlaid(prediction.image, prediction.labels)
        for name, picture in ((f"{stem}_labels.png", labels), (f"{stem}_overlay.png", Image.fromarray(overlay))):
            with atomic.replacing(folder / name) as partial:
                picture.save(partial, "PNG")
            written.append(folder / name)
        rows.append((prediction.image, prediction.reconstruction, colours[prediction.labels], overlay))
    with atomic.replacing(folder / "contact_sheet.png") as partial:
        partial.write_bytes(pictures.encode_png(pictures.sheet(COLUMNS, rows[:LARGEST])))
    return [*written, folder / "contact_sheet.png"]


def overlaid(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) tinted by the colours of its ``labels`` (H, W); the largest segment stays as it is."""
    colours = pictures.palette(256)[labels].astype(np.float32)
    largest = labels[..., None] == np.bincount(labels.ravel()).argmax()
    tinted = np.where(largest, image, 0.5 * image + 0.5 * colours)
    return tinted.round().astype(np.uint8)
