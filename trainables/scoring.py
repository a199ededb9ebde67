"""A model as it is judged: its scores on images, a picture of what it sees, and how it comes back from a checkpoint.

Axes: B batch, K slots, C channels, H W pixels.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import trainables
from data.loader import Split, as_tensors, sequential
from trainables import metrics, noise, own_metrics, pictures
from trainables.model import SegmentationModel
from trainables.precision import autocast

PANEL_IMAGES = 4
"""Images in a trial's picture."""


def evaluate(
    model: SegmentationModel,
    split: Split,
    rows: np.ndarray,
    *,
    step: int,
    precision: str = "fp32",
    keep: Callable[[metrics.Labels], Any] = lambda labels: None,
    draw: int = 0,
    forgive: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Scores of the images ``rows`` (n,) of ``split``: metric name -> (n,) float64, ``loss`` included.

    The same model gets the same scores every time, whatever memory there is: images are judged in blocks, each with the
    noise of the whole block, in passes of at most ``model.judged_at_once`` at 128x128, and of fewer where a GPU has no
    memory for those. ``loss`` is the mean over a block, repeated for its images. ``keep`` is given the predicted labels
    (B, H, W) of each pass, in the order of ``rows``. ``draw`` chooses the noise.

    Raises :class:`metrics.NotFinite` for masks with NaN, unless ``forgive`` is given: it is told how many images of a
    pass have some, and they count as one segment.
    """
    blocks: list[dict[str, np.ndarray]] = []
    most = images_per_pass(model)
    with judged(model) as device:
        generator = torch.Generator(device).manual_seed(draw)

        def judge(block: np.ndarray, part: range) -> dict[str, np.ndarray]:
            image, labels = as_tensors(*split.gather(block[part.start : part.stop]), device)  # (B, 3, H, W), (B, H, W)
            with autocast(device, precision), noise.drawn_from(generator, part, len(block)):
                output = model(image, step)
            masks = output.masks.float()  # (B, K, 1, H, W)
            if forgive is not None:
                bad = masks.isnan().flatten(1).any(1)  # (B,)
                forgive(int(bad.sum()))
                masks = masks.masked_fill(bad[:, None, None, None, None], 0.0)
            predicted, num_slots = metrics.harden(masks)  # (B, H, W)
            reconstruction = output.reconstruction.float()
            scores = metrics.score_labels(predicted, labels, num_slots, reconstruction, image)
            scores |= own_metrics.scores(predicted, labels, reconstruction, image)
            scores |= {"loss": np.full(len(part), float(output.loss))}
            keep(predicted)
            return scores

        for chosen in sequential(len(rows), images_per_block(model.image_size)):
            before = generator.get_state()
            parts: list[dict[str, np.ndarray]] = []
            first = 0
            while first < len(chosen):
                generator.set_state(before)
                part = range(first, min(first + most, len(chosen)))
                try:
                    parts.append(judge(rows[chosen], part))
                    first = part.stop
                except torch.OutOfMemoryError:
                    if len(part) == 1 or model.config.replicate:
                        raise
                    most = len(part) // 2
            block = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            blocks.append({**block, "loss": np.full(len(chosen), block["loss"].mean())})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def panel(model: SegmentationModel, split: Split, *, step: int, precision: str = "fp32") -> np.ndarray:
    """Input | reconstruction | true segments | predicted segments of a few images of ``split``, uint8 (H', W', 3)."""
    with judged(model) as device:
        images, labels = as_tensors(*split.gather(np.arange(min(PANEL_IMAGES, len(split)))), device)
        with autocast(device, precision):
            output = model(images, step)
        if output.masks.isfinite().all():
            output.check(images)
        return pictures.panel(
            images,
            output.reconstruction.float(),
            labels,
            output.masks.argmax(1)[:, 0],  # (B, H, W)
            boxes=output.boxes,
            presence=output.presence,
        )


def images_per_block(image_size: int) -> int:
    """Images of a block, for which noise is drawn at once: 8 at 128x128, the same for all models and machines."""
    return int(np.clip(2**17 // image_size**2, 1, 128))


def images_per_pass(model: SegmentationModel) -> int:
    """Images that go through ``model`` at a time, by its ``judged_at_once`` and the size of its images.

    With ``replicate`` the whole block, over whose size some models divide a gradient that they take within forward.
    """
    block = images_per_block(model.image_size)
    if model.config.replicate:
        return block
    return min(block, max(1, model.judged_at_once * 128**2 // model.image_size**2))


def restore_model(state: Mapping[str, Any], device: torch.device | str = "cpu") -> SegmentationModel:
    """The model of a checkpoint ``state``, with its weights, in evaluation mode."""
    model = trainables.build(state["model"], state["hyperparameters"], state["image_size"]).to(device)
    model.load_state_dict(state["weights"])
    return model.eval()


@contextmanager
def judged(model: SegmentationModel) -> Iterator[torch.device]:
    """Within this context ``model`` is in evaluation mode and draws the same noise every time; gives its device.

    The noise comes from a generator of its own, so that the random numbers of training do not depend on how often a
    model is judged. Not inference_mode: IODINE and EfficientMORL need local gradients.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), noise.drawn_from(torch.Generator(device).manual_seed(0)):
            yield device
    finally:
        model.train(was_training)
