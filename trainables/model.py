"""SegmentationModel: what the training loop asks of a model, with defaults for all but ``forward``."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trainables import optim
from trainables.output import SegmentationOutput


class SegmentationModel(nn.Module, ABC):
    """Base of the ten models.

    A subclass is constructed as ``Model(config, image_size)``, calls ``super().__init__(config, image_size)`` and
    implements :meth:`forward`. All its state lives in parameters, buffers or optimisers, so that a checkpoint holds
    it; schedules are pure functions of the step.
    """

    judged_at_once = 8
    """Images of 128x128 pixels that a validation passes through the model at a time. Lower it where a pass keeps much
    more than activations."""

    def __init__(self, config: Any, image_size: int):
        super().__init__()
        self.config = config
        """The frozen Config dataclass of the model's module."""
        self.image_size = image_size
        """Height and width of the square images, in pixels."""

    @abstractmethod
    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W), float32 in [0, 1], as of training step ``step`` (0-based)."""

    def optimizers(self) -> list[Optimizer]:
        """The optimisers, stepped together after one backward pass; their ``lr`` is the peak learning rate."""
        c = self.config
        return [optim.build(c.optimizer, self.parameters(), c.lr, c.weight_decay)]

    def lr_scale(self, step: int) -> list[float]:
        """Factor on each optimiser's learning rate at training step ``step``; one per optimiser, or one for all."""
        return [1.0]

    def clip_norm(self) -> float | None:
        """Largest norm of the joint gradient of all parameters; None means no clipping."""
        norm: float | None = self.config.grad_clip
        return norm

    def initialise(self, images: Tensor) -> None:
        """Called once before step 0 with training images (B, 3, H, W); a model that does not override it gets none."""

    def after_step(self, step: int, output: SegmentationOutput) -> None:
        """Called after the optimisers' step, in training only. ``loss`` and ``terms`` are means over the batch.

        ``reconstruction``, ``masks`` and the rest are those of the last micro-batch of this process, so state must
        depend on ``loss`` and ``terms`` alone.
        """

    def on_validation(self, metrics: dict[str, float]) -> None:
        """Called with the mean validation metrics each time a trial reports."""
