"""SPACE as a whole: foreground and background as a two-part mixture per pixel (Lin et al. 2020, section 2.3)."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables import optim
from trainables.distributions import normal_log_density
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import linear, warm_up
from trainables.space.background import MASK_FACTORS, MASK_FLOOR, Background, Mixture
from trainables.space.config import Config
from trainables.space.foreground import STRIDES, Canvas, Foreground, Objects
from trainables.spatial_transformer import paste, pixel_boxes, segment

FIXED_ALPHA = 0.1
"""Foreground share of every pixel while alpha is fixed."""

BOUNDARY_STD = 0.7
"""Standard deviation of the normal that scores the overlap of box frames and foreground."""


class Model(SegmentationModel):
    """SPACE: a grid of cells that each may hold an object, before a background of a few components.

    Segments are the background as a whole, then the cells, row by row.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        if image_size not in MASK_FACTORS:
            raise ValueError(f"image size {image_size} does not fit SPACE; use {', '.join(map(str, MASK_FACTORS))}")
        grid = image_size // 16 if config.grid is None else config.grid
        grids = {image_size // cell: cell for cell in STRIDES}
        if grid not in grids:
            fitting = ", ".join(map(str, sorted(grids)))
            raise ValueError(f"grid {grid} does not fit images of {image_size} pixels; use one of {fitting}")
        self.foreground = Foreground(config, grids[grid])
        self.background = Background(config, image_size)

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W) as of training step ``step``.

        In evaluation every latent is its posterior's mean, unless the configuration says otherwise. The foreground
        draws its noise before the background. The terms that begin with ``nll``, ``kl`` (before ``kl_weight``) and
        ``boundary`` are the parts of the loss in nats; ``count`` is the expected number of objects per image.
        """
        c = self.config
        schedules = self.schedules(step)
        sample = self.training or c.sample_posterior or c.replicate
        objects = self.foreground(image, **schedules, sample=sample)
        ground = self.background(image, sample)
        with torch.autocast(image.device.type, enabled=False):
            canvas = objects.canvas
            # as published, not yet at step 0
            fixed = 0 < step < c.fix_alpha_frac * c.steps
            alpha = torch.full_like(canvas.alpha, FIXED_ALPHA) if fixed else canvas.alpha
            reconstruction = alpha * canvas.image + (1 - alpha) * ground.image
            nll = -log_likelihood(image, canvas.image, alpha, ground, c.sigma).flatten(1).sum(1).mean()
            kl = {f"kl_{name}": value.mean() for name, value in (objects.kl | ground.kl).items()}
            terms = {"nll": nll, **kl}
            loss = nll + c.kl_weight * torch.stack(list(kl.values())).sum()
            if c.boundary_weight > 0 and (c.boundary_off_frac >= 1 or step < c.boundary_off_frac * c.steps):
                terms["boundary"] = c.boundary_weight * boundary_loss(canvas)
                loss = loss + terms["boundary"]
        terms["count"] = objects.presence.detach().sum(1).mean()
        terms |= {name: torch.tensor(value) for name, value in schedules.items()}
        return SegmentationOutput(
            loss,
            reconstruction,
            lambda: segment(canvas.cell_alphas.detach()),
            terms,
            appearances=lambda: self._appearances(objects, ground),
            boxes=pixel_boxes(objects.z_where.detach(), self.image_size),
            presence=objects.presence.detach(),
        )

    def schedules(self, step: int) -> dict[str, float]:
        """Prior presence ``pi``, prior box size ``mu_s`` (a logit) and temperature ``tau`` at ``step``."""
        c = self.config
        return {
            "pi": linear(step, c.pi_start, c.pi_end, c.pi_first_frac * c.steps, c.pi_last_frac * c.steps),
            "mu_s": linear(step, c.mu_s_start, c.mu_s_end, c.mu_s_first_frac * c.steps, c.mu_s_last_frac * c.steps),
            "tau": linear(step, c.tau_start, c.tau_end, 0, c.tau_last_frac * c.steps),
        }

    def optimizers(self) -> list[Optimizer]:
        """One optimiser for the foreground and Adam for the background, stepped after one common backward pass.

        The published code differs, see docs/models.md.
        """
        c = self.config
        return [
            optim.build(c.fg_optimizer, self.foreground.parameters(), c.fg_lr, c.weight_decay),
            optim.build("adam", self.background.parameters(), c.bg_lr, c.weight_decay),
        ]

    def lr_scale(self, step: int) -> list[float]:
        """The foreground warms up; the background does not."""
        return [warm_up(step, self.config.fg_warmup_frac * self.config.steps), 1.0]

    @torch.no_grad()
    def _appearances(self, objects: Objects, ground: Mixture) -> Tensor:
        """The background, then every cell's glimpse in its box, black around it: (B, 1 + N, 3, H, W)."""
        cells = paste(objects.appearance, objects.z_where, self.image_size)
        return torch.cat([ground.image[:, None], cells], dim=1)


def log_likelihood(image: Tensor, objects: Tensor, alpha: Tensor, ground: Mixture, sigma: float) -> Tensor:
    """log p(image), per pixel and channel (B, 3, H, W), of the mixture of foreground and background components.

    ``objects`` (B, 3, H, W) is the foreground's image, ``alpha`` (B, 1, H, W) its share.
    """
    in_front = normal_log_density(image, objects, sigma) + (alpha + MASK_FLOOR).log()
    components = normal_log_density(image[:, None], ground.components, sigma) + ground.log_masks
    behind = components.logsumexp(dim=1) + (1 - alpha + MASK_FLOOR).log()
    return torch.logaddexp(in_front, behind)


def boundary_loss(canvas: Canvas) -> Tensor:
    """How much box frames cut through the foreground, in nats, mean over the batch (Lin et al. 2020, appendix D).

    It is never zero: a pixel without overlap counts 0.5623.
    """
    overlap = canvas.frame * canvas.alpha
    return -normal_log_density(overlap, 0.0, BOUNDARY_STD).flatten(1).sum(1).mean()
