"""SPAIR as a whole: the objects of the cells are drawn over the background; likelihood and KL terms are the loss."""

import math

import torch
from torch import Tensor, nn

from trainables.distributions import bernoulli_kl, normal_kl, normal_log_density, sample_normal
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import linear
from trainables.spair.cells import CellInference, Cells, box, distance, draw
from trainables.spair.config import Config
from trainables.spair.count_prior import count_prior, sequential_prior
from trainables.spair.networks import Backbone, Background, BroadcastDecoder
from trainables.spatial_transformer import paste, pixel_boxes, segment

GLIMPSES = {32: 12, 64: 16, 96: 24, 128: 24}
"""Side of a glimpse by image size, in pixels; published at 128."""

IMPORTANCE_FLOOR = 0.01
"""Importance of a cell where it shows nothing (benchmark)."""

SIZE_PRIOR_STD, SHIFT_PRIOR_STD, BACKGROUND_PRIOR_STD = 0.5, 1.0, 3.0
"""Standard deviations of the priors of raw size, raw centre and background (benchmark)."""

PLATEAU_THRESHOLD = 1e-4
"""Share by which a validation MSE must beat the best to count as better."""


class Model(SegmentationModel):
    """SPAIR: a grid of cells that each may hold an object, before a background.

    Segments are the background, then the cells, row by row.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        c = config
        if image_size not in GLIMPSES:
            raise ValueError(f"image size {image_size} does not fit SPAIR; use {', '.join(map(str, GLIMPSES))}")
        grid = c.grid if c.grid is not None else 6 if image_size == 96 else 4
        grids = {image_size // cell: cell for cell in (32, 16, 8)}
        if grid not in grids:
            fitting = ", ".join(map(str, grids))
            raise ValueError(f"grid {grid} does not fit images of {image_size} pixels; use one of {fitting}")
        glimpse = c.glimpse or GLIMPSES[image_size]
        anchor = max(1, round(c.anchor_frac * image_size)) / image_size
        self.backbone = Backbone(c.fg_width, grids[grid])
        self.cells = CellInference(self.backbone.features, c.z_what_dim, glimpse, grid, anchor, c.fg_width)
        self.decoder = BroadcastDecoder(c.z_what_dim, 4, glimpse, c.fg_width)
        self.background = Background(c.bg_dim, image_size, c.bg_width) if c.bg_dim else None
        self._initialise_weights()
        self.register_buffer("best_mse", torch.tensor(math.inf))
        self.register_buffer("reports_since", torch.tensor(0))
        self.register_buffer("lr_factor", torch.tensor(1.0))
        self.best_mse: Tensor
        """The best validation MSE so far."""
        self.reports_since: Tensor
        """Reports since then."""
        self.lr_factor: Tensor
        """Factor on the learning rate."""
        self._lr_scale: float | None = 1.0
        """``lr_factor`` on the host, where no step has to wait for it; None where it has changed since."""
        self.register_load_state_dict_post_hook(lambda *_: self._forget_lr_scale())

    @torch.no_grad()
    def _initialise_weights(self) -> None:
        c = self.config
        layers = [*self.cells.encoder, *list(self.decoder.layers)[:-1]]
        if self.background is not None:
            layers += [*self.background.encoder, *list(self.background.decoder.layers)[:-1]]
        for layer in layers:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(c.init_gain)
        head = self.cells.encoder[-1]
        assert isinstance(head, nn.Linear)
        head.bias[c.z_what_dim :] += c.what_std_bias

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W) as of training step ``step``.

        In evaluation every latent is its posterior's mean, and a cell is present if that is likelier than not. Noise:
        see :func:`trainables.spair.cells.draw`; then ``noise.normal`` (B, bg_dim) for the background. The terms
        ``nll`` and ``kl_*`` are the parts of the loss in nats, before their weights; ``count`` is the expected number
        of objects per image, ``count_hard`` the number drawn.
        """
        c = self.config
        B, size = len(image), self.image_size
        schedules = self.schedules(step)
        sample = self.training or c.replicate
        features = self.backbone(image).float().flatten(2).mT  # (B, N, F)
        N = features.shape[1]
        noises = draw(N, c.z_what_dim, features) if sample else features.new_zeros(B, N, 6 + c.z_what_dim)
        cells = self.cells(image, features, noises, c.tau, hard=not self.training)
        z_where = self.cells.place(box(cells.where))  # (B, N, 4)
        patches = self.decoder(cells.what.flatten(0, 1)).unflatten(0, (B, N))  # (B, N, 4, g, g)
        ground, kl_bg = self._ground(image, sample)  # (B, 3, H, W), (B,)
        with torch.autocast(image.device.type, enabled=False):
            colours, alphas = paste(patches, z_where, size).split([3, 1], dim=2)  # (B, N, 3, H, W), (B, N, 1, H, W)
            alphas = alphas * cells.presence[..., None, None]
            weights = blend(alphas, distance(cells.depth))  # (B, N, 1, H, W)
            reconstruction = (weights * colours).sum(1) + (1 - weights.sum(1)) * ground
            nll = -normal_log_density(image, reconstruction, schedules["sigma"]).flatten(1).sum(1)
            kl = self.cell_kl(cells, schedules["prior"])
            kl_cells = kl["where"] + kl["what"] + kl["depth"] + c.presence_weight * kl["pres"]  # (B,)
            loss = (nll + c.kl_weight * kl_cells + kl_bg).mean()
        terms = {"nll": nll.mean(), **{f"kl_{name}": value.mean() for name, value in kl.items()}, "kl_bg": kl_bg.mean()}
        probability = cells.logit.detach().sigmoid()[..., 0]  # (B, N)
        terms["count"] = probability.sum(1).mean()
        terms["count_hard"] = cells.presence.detach().round().sum((1, 2)).mean()
        terms |= {name: torch.tensor(value) for name, value in schedules.items()}
        return SegmentationOutput(
            loss,
            reconstruction,
            lambda: segment(alphas.detach()),
            terms,
            appearances=lambda: torch.cat([ground[:, None], colours], dim=1).detach(),
            boxes=pixel_boxes(z_where.detach(), size),
            presence=probability,
        )

    def schedules(self, step: int) -> dict[str, float]:
        """Standard deviation ``sigma`` of a pixel and p of the ``prior`` on the number of objects at ``step``."""
        c = self.config
        # a ramp of n steps ends at step n - 1, as published
        return {
            "sigma": linear(step, c.sigma_start, c.sigma, 0, c.sigma_ramp_frac * c.steps - 1),
            "prior": linear(step, c.prior_start, c.prior_end, 0, c.prior_ramp_frac * c.steps - 1),
        }

    def cell_kl(self, cells: Cells, p: float) -> dict[str, Tensor]:
        """KL of each latent in nats, (B,), summed over cells and dimensions.

        The prior of presence is given by the cells before, as drawn; no gradient passes through it.
        """
        c = self.config
        mean, std = cells.where_mean, cells.where_std  # (B, N, 4)
        size = normal_kl(mean[..., :2], std[..., :2], c.size_prior_mean, SIZE_PRIOR_STD).sum(-1)  # (B, N)
        shift = normal_kl(mean[..., 2:], std[..., 2:], 0.0, SHIFT_PRIOR_STD).sum(-1)
        kl = {
            "where": size + shift,
            "what": normal_kl(cells.what_mean, cells.what_std, 0.0, 1.0).sum(-1),
            "depth": normal_kl(cells.depth_mean, cells.depth_std, 0.0, 1.0).sum(-1),
        }
        if c.kl_by_presence:
            kl = {name: value * cells.presence[..., 0] for name, value in kl.items()}
        present = cells.presence.detach().round()[..., 0]  # (B, N)
        prior = sequential_prior(present, p) if c.replicate else count_prior(present, p)
        kl["pres"] = bernoulli_kl(cells.logit[..., 0], prior)
        return {name: value.sum(1) for name, value in kl.items()}

    def _ground(self, image: Tensor, sample: bool) -> tuple[Tensor, Tensor]:
        """The background of ``image`` (B, 3, H, W), of the same shape, and its KL (B,)."""
        if self.background is None:
            return torch.zeros_like(image), image.new_zeros(len(image))
        mean, std = self.background(image)
        z = sample_normal(mean, std) if sample else mean
        return self.background.decoder(z), normal_kl(mean, std, 0.0, BACKGROUND_PRIOR_STD).sum(1)

    def lr_scale(self, step: int) -> list[float]:
        """The plateau's factor."""
        if self._lr_scale is None:
            self._lr_scale = float(self.lr_factor)
        return [self._lr_scale]

    def _forget_lr_scale(self) -> None:
        self._lr_scale = None

    def on_validation(self, metrics: dict[str, float]) -> None:
        """Lower the learning rate, once, when the mean squared error has not improved for long enough.

        In the published call ``True`` stands in the place of the threshold, so that no error counts as better. With
        ``replicate`` the rate therefore drops after ``plateau_patience`` + 1 reports, whatever the errors are.
        """
        threshold = 1.0 if self.config.replicate else PLATEAU_THRESHOLD
        self.reports_since += 1
        if metrics["MSE"] < self.best_mse * (1 - threshold):
            self.best_mse.fill_(metrics["MSE"])
            self.reports_since.zero_()
        elif self.reports_since > self.config.plateau_patience:
            self.lr_factor.fill_(self.config.plateau_scale)
            self._forget_lr_scale()


def blend(alphas: Tensor, distances: Tensor) -> Tensor:
    """Each cell's share (B, N, 1, H, W) of every pixel; the background has the rest.

    ``alphas`` (B, N, 1, H, W), ``distances`` (B, N, 1). A cell's alpha counts in proportion to its importance, alpha
    over distance, among all cells; a cell that shows nothing there keeps a little and gives it to the background.
    """
    importance = (alphas / distances[..., None, None]).clamp(min=IMPORTANCE_FLOOR)
    return alphas * importance / importance.sum(1, keepdim=True)
