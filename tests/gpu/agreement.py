"""GPU against CPU: the same weights, images and noise give the same loss, pictures and gradient.

A share of the pixels may belong to another slot where two slots are almost equal, and a hard choice (argmax, a sample
compared with a threshold) may turn with the last bit. So each row has a yardstick: how far the CPU's own results move
when its images move by 1e-6. A difference far above that is no rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import trainables
from tests.gpu.rows import Rows, Setting, each, setting
from tests.gpu.trials import SIZES, tf32, trial
from tests.trainables import scenes
from trainables import noise
from trainables.model import SegmentationModel

BATCH = 2
STEPS = 10
"""Training steps on the GPU before the comparison: fresh weights hide much."""

TOLERANCE = 1e-3
NUDGE = 1e-6
"""How far the yardstick moves the images."""


def main() -> None:
    """Compare each model on ``--device`` with the CPU."""
    given = setting()
    tf32(False)
    each(trainables.names(), Rows(given.rows), given.until, lambda name: compare(name, given))


def compare(name: str, given: Setting) -> dict[str, Any]:
    """The largest differences of a model, each with its yardstick in brackets."""
    trained = trial(name, given, batch=BATCH)
    trained.advance(STEPS)
    step = trained.step
    here = trained.model
    there = trainables.build(name, vars(here.config), SIZES[given.device])
    there.load_state_dict({key: value.cpu() for key, value in here.state_dict().items()})
    image = scenes.images(BATCH, SIZES[given.device])
    figures: dict[str, Any] = {}
    worst = 0.0
    for mode in ("eval", "train"):  # in this order: training moves running statistics
        for model in (here, there):
            model.train(mode == "train")
        reference = explained(there, image, step)
        found = explained(here, image.to(given.device), step)
        moved = explained(there, image + NUDGE, step)
        for key, value in reference.items():
            difference, yard = distance(found[key], value), distance(moved[key], value)
            figures[f"{mode} {key}"] = f"{difference:.1e} ({yard:.1e})"
            if key != "gradient":
                worst = max(worst, difference if difference > 10 * yard else 0.0)
    figures["verdict"] = "ok" if worst <= TOLERANCE else f"differs by {worst:.1e}, more than rounding"
    return figures


def explained(model: SegmentationModel, image: Tensor, step: int) -> dict[str, Tensor]:
    """Loss, terms, reconstruction and masks of ``image``, on the CPU; in training mode the gradient, too."""
    with drawn_on_the_cpu(seed=1), torch.set_grad_enabled(model.training):
        output = model(image, step)
    found = {"loss": output.loss, "reconstruction": output.reconstruction, "masks": output.masks}
    found["terms"] = torch.stack([torch.as_tensor(value).detach().float().cpu() for value in output.terms.values()])
    if model.training:
        model.zero_grad()
        output.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        found["gradient"] = torch.cat([gradient.flatten() for gradient in gradients])
    return {key: value.detach().float().cpu() for key, value in found.items()}


def distance(found: Tensor, reference: Tensor) -> float:
    """The largest difference, as a share of the largest value but 1 at least for pictures; of gradients, by norm."""
    if found.shape != reference.shape or not found.isfinite().all():
        return float("inf")
    if reference.ndim == 1 and len(reference) > 100:
        return float((found - reference).norm() / reference.norm().clamp(min=1e-12))
    return float((found - reference).abs().max() / reference.abs().max().clamp(min=1.0))


@contextmanager
def drawn_on_the_cpu(seed: int) -> Iterator[None]:
    """Within this context noise is drawn by the CPU's generator, and moved to where it is wanted."""
    generator = torch.Generator().manual_seed(seed)

    def draw(numbers: Any, shape: Any, like: Tensor) -> Tensor:
        return numbers(tuple(shape), generator=generator).to(like.device, like.dtype)

    def permutation(n: int, like: Tensor) -> Tensor:
        return torch.randperm(n, generator=generator).to(like.device)

    with mock.patch.object(noise, "_draw", draw), mock.patch.object(noise, "permutation", permutation):
        yield


if __name__ == "__main__":
    main()
