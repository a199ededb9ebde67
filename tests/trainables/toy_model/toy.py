"""A model of four numbers whose training can be worked out by hand, see ``tests.trainables.toy``.

It lies in a folder of its own, which tests put on the paths of ``trainables`` and ``search_spaces``: there it is found
by its name, and is both the model and its search space.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from trainables import noise
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput


@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    batch_size: int = 6
    steps: int = 10
    grad_clip: float | None = None
    bad_loss_at: int = -1
    """Step whose loss is NaN."""
    bad_gradient_at: int = -1
    """Step whose loss is finite, and whose gradient is NaN."""
    replicate: bool = False


class Model(SegmentationModel):
    """Two residuals, (a k x + b - 1/2) and (c k x - d - 1/4), of an image's mean x; in training k is 0 or 2."""

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        self.a, self.b, self.c, self.d = (nn.Parameter(torch.rand(())) for _ in range(4))
        for buffer in ("initial", "residuals", "losses", "drawn", "validations"):
            self.register_buffer(buffer, torch.zeros(()))

    def initialise(self, images: Tensor) -> None:
        self.initial += images.mean() + noise.uniform((1,), images)[0]

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        keep = 2.0 * (noise.uniform((len(image),), image) < 0.5) if self.training else image.new_ones(len(image))
        x = image.mean((1, 2, 3)) * keep  # (B,)
        r, s = self.a * x + self.b - 0.5, self.c * x - self.d - 0.25
        loss = (r**2 + s**2).mean()
        if step == self.config.bad_loss_at:
            loss = loss * torch.nan
        if step == self.config.bad_gradient_at:
            loss = loss + (self.a - self.a.detach()).abs().sqrt()  # 0, with the slope 0 / 0
        grey = image.mean(1)  # (B, H, W)
        levels = F.one_hot((grey > 0.4).long() + (grey > 0.6).long(), 3)  # (B, H, W, 3): the slots
        masks = 0.5 * levels + image.new_tensor([0.1, 0.15, 0.25]) * (self.a / self.a)  # NaN where a is infinite
        reconstruction = self.a * keep[:, None, None, None] * image
        return SegmentationOutput(loss, reconstruction, masks.permute(0, 3, 1, 2)[:, :, None], {"residual": r.mean()})

    def optimizers(self) -> list[Optimizer]:
        lr = self.config.lr
        return [
            SGD([{"params": [self.a]}, {"params": [self.b], "lr": lr / 8}], lr=lr),
            SGD([{"params": [self.c], "lr": 3 * lr}, {"params": [self.d]}], lr=lr / 2, momentum=0.9),
        ]

    def lr_scale(self, step: int) -> list[float]:
        return [0.5**step, 1 + step / 4]

    def after_step(self, step: int, output: SegmentationOutput) -> None:
        self.residuals += output.terms["residual"]
        self.losses += output.loss
        self.drawn += noise.uniform((1,), self.drawn)[0]

    def on_validation(self, metrics: dict[str, float]) -> None:
        self.validations += metrics["loss"]


TINY: dict[str, Any] = {}


def space(trial: Any, base: dict[str, Any]) -> dict[str, Any]:
    return {"lr": trial.suggest_float("lr", base["lr"] / 10, base["lr"] * 10, log=True)}
