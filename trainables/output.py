"""SegmentationOutput: the one contract between the ten models and everything that trains, scores or draws them.

Axes: B batch, K slots, N boxes, C channels, H W pixels. Images are float32 in [0, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

Lazy = Tensor | Callable[[], Tensor]


class SegmentationOutput:
    """What a model says about a batch of images.

    ``masks`` and ``appearances`` may be given as functions, which are called once, on first access: a model with many
    slots (SPACE has 65) need not build full-size tensors in training steps, which do not use them.
    """

    def __init__(
        self,
        loss: Tensor,
        reconstruction: Tensor,
        masks: Lazy,
        terms: dict[str, Tensor],
        *,
        appearances: Lazy | None = None,
        boxes: Tensor | None = None,
        presence: Tensor | None = None,
    ):
        self.loss = loss
        """Scalar, the mean over the batch of what training minimises."""
        self.reconstruction = reconstruction
        """(B, 3, H, W), unclamped: the image that the loss compares with the input."""
        self.terms = terms
        """Named scalars for TensorBoard; the parts of the loss and the schedules' values."""
        self.boxes = boxes
        """(B, N, 4), xyxy in pixels, or None for models without boxes."""
        self.presence = presence
        """(B, N) in [0, 1], or None: the probability that each box holds an object."""
        self._masks = masks
        self._appearances = appearances

    @property
    def masks(self) -> Tensor:
        """(B, K, 1, H, W), non-negative, summing to 1 over K; the background first where a model has one."""
        if not isinstance(self._masks, Tensor):
            self._masks = self._masks()
        return self._masks

    @property
    def appearances(self) -> Tensor | None:
        """(B, K, 3, H, W): what each slot would look like unmasked, or None."""
        if self._appearances is not None and not isinstance(self._appearances, Tensor):
            self._appearances = self._appearances()
        return self._appearances

    def check(self, image: Tensor) -> None:
        """Assert that shapes and the masks' sum keep the contract for the batch ``image`` (B, 3, H, W).

        Called when a picture is drawn and in the contract test, never in the training loop.
        """
        B, _, H, W = image.shape
        assert self.loss.shape == (), f"loss must be a scalar, not {tuple(self.loss.shape)}"
        assert self.reconstruction.shape == image.shape, tuple(self.reconstruction.shape)
        masks = self.masks.detach().float()
        assert masks.ndim == 5 and masks.shape[0] == B and masks.shape[2:] == (1, H, W), tuple(masks.shape)
        assert float(masks.min()) >= 0, f"negative mask {float(masks.min())}"
        error = float((masks.sum(1) - 1).abs().max())
        assert error < 1e-3, f"masks sum to 1 only within {error}"
        for name, term in self.terms.items():
            assert torch.as_tensor(term).numel() == 1, f"term {name} is not a scalar"
        if self.appearances is not None:
            assert self.appearances.shape == (B, masks.shape[1], 3, H, W), tuple(self.appearances.shape)
        if self.boxes is not None:
            assert self.boxes.ndim == 3 and self.boxes.shape[0] == B and self.boxes.shape[2] == 4
            assert self.presence is not None and self.presence.shape == self.boxes.shape[:2]
