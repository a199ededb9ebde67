"""The foreground of SPACE: a grid of cells, each of which may hold one object (Lin et al. 2020, section 2.1)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.conv_blocks import conv_block
from trainables.distributions import bernoulli_kl, normal_kl, sample_normal, sample_relaxed_bernoulli
from trainables.positions import centres
from trainables.space.blocks import upsample
from trainables.space.config import Config
from trainables.spatial_transformer import crop, paste

PRESENCE_BOUND = 8.8
"""Presence logits are squashed to plus or minus this, so that presence never saturates."""

SCALE_PRIOR_STD = 0.1
"""Standard deviation of the prior of the box size, before its sigmoid."""

STRIDES = {8: (1, 1), 16: (1, 2), 32: (2, 2)}
"""Strides of the trunk's last two 3x3 layers, by the pixels per cell."""


class Canvas(NamedTuple):
    """The cells' glimpses, pasted at full resolution and merged."""

    image: Tensor
    """(B, 3, H, W), already multiplied by alpha."""
    alpha: Tensor
    """(B, 1, H, W) in [0, 1]: how much of each pixel is foreground."""
    cell_alphas: Tensor
    """(B, N, 1, H, W) in [0, 1]: each cell's alpha times presence; neither ordered by depth nor normalised."""
    frame: Tensor
    """(B, 1, H, W): the sum of the present boxes' frames, about 1 on the frame of one box."""


class Objects(NamedTuple):
    """What the foreground infers from a batch of images."""

    canvas: Canvas
    kl: dict[str, Tensor]
    """KL of each latent in nats, (B,), summed over cells and dimensions."""
    presence: Tensor
    """(B, N): probability that the cell holds an object."""
    z_where: Tensor
    """(B, N, 4): boxes (sx, sy, tx, ty), see ``trainables.spatial_transformer``."""
    appearance: Tensor
    """(B, N, 3, g, g) in [0, 1]: decoded glimpses."""


class ImageEncoder(nn.Module):
    """Every cell's raw parameters of scale, shift, presence and depth, in this order: four of (B, N, D)."""

    def __init__(self, width: float, cell: int):
        super().__init__()
        c16, c32, c64, c128, c256 = (max(1, round(width * c)) for c in (16, 32, 64, 128, 256))
        fourth, fifth = STRIDES[cell]
        self.trunk = nn.Sequential(
            conv_block(3, c16, 4, 2, 1, 4),
            conv_block(c16, c32, 4, 2, 1, 8),
            conv_block(c32, c64, 4, 2, 1, 8),
            conv_block(c64, c128, 3, fourth, 1, 16),
            conv_block(c128, c256, 3, fifth, 1, 32),
            conv_block(c256, c128, 1, 1, 0, 16),
        )
        self.lateral = nn.Sequential(conv_block(c128, c128, 3, 1, 1, 16), conv_block(c128, c128, 3, 1, 1, 16))
        self.merge = conv_block(2 * c128, c128, 3, 1, 1, 16)
        self.scale = nn.Conv2d(c128, 4, 1)
        self.shift = nn.Conv2d(c128, 4, 1)
        self.pres = nn.Conv2d(c128, 1, 1)
        self.depth = nn.Conv2d(c128, 2, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Cells of ``image`` (B, 3, H, W), row by row."""
        features = self.trunk(image)  # (B, C, G, G)
        features = self.merge(torch.cat([features, self.lateral(features)], dim=1))
        heads = (self.scale, self.shift, self.pres, self.depth)
        return [head(features).float().flatten(2).mT for head in heads]


class GlimpseEncoder(nn.Sequential):
    """Raw parameters (M, 2 D) of z_what from glimpses (M, 3, g, g)."""

    def __init__(self, width: float, glimpse: int, z_what: int):
        c16, c32, c64, c128, c256 = (max(1, round(width * c)) for c in (16, 32, 64, 128, 256))
        super().__init__(
            conv_block(3, c16, 3, 1, 1, 4),
            conv_block(c16, c32, 4, 2, 1, 8),
            conv_block(c32, c32, 3, 1, 1, 4),
            conv_block(c32, c64, 4, 2, 1, 8),
            conv_block(c64, c128, 4, 2, 1, 8),
            conv_block(c128, c256, glimpse // 8, 1, 0, 16),
            nn.Flatten(),
            nn.Linear(c256, 2 * z_what),
        )


class GlimpseDecoder(nn.Module):
    """Appearance (M, 3, g, g) and alpha (M, 1, g, g), both in [0, 1], from z_what (M, D)."""

    def __init__(self, width: float, glimpse: int, z_what: int):
        super().__init__()
        stages = ((128, 16), (128, 16), (64, 8), (32, 8), (16, 4))[5 - (glimpse.bit_length() - 1) :]
        channels = max(1, round(width * 256))
        layers: list[nn.Module] = [conv_block(z_what, channels, 1, 1, 0, 16)]
        for published, groups in stages:
            inputs, channels = channels, max(1, round(width * published))
            layers.append(upsample(inputs, channels, 2, groups))
        self.stem = nn.Sequential(*layers)
        self.appearance = nn.Conv2d(channels, 3, 3, 1, 1)
        self.alpha = nn.Conv2d(channels, 1, 3, 1, 1)

    def forward(self, z_what: Tensor) -> tuple[Tensor, Tensor]:
        """Decode ``z_what`` (M, D)."""
        features = self.stem(z_what[..., None, None])
        return self.appearance(features).float().sigmoid(), self.alpha(features).float().sigmoid()


class Foreground(nn.Module):
    """Infers and draws the objects of images (B, 3, H, W) on a grid of N = (H / cell)^2 cells."""

    def __init__(self, config: Config, cell: int):
        super().__init__()
        self.glimpse = config.glimpse
        self.std_floor = 1e-15 if config.replicate else 1e-6
        self.encoder = ImageEncoder(config.fg_width, cell)
        self.glimpse_encoder = GlimpseEncoder(config.fg_width, config.glimpse, config.z_what_dim)
        self.glimpse_decoder = GlimpseDecoder(config.fg_width, config.glimpse, config.z_what_dim)

    def forward(self, image: Tensor, *, pi: float, mu_s: float, tau: float, sample: bool) -> Objects:
        """Objects of ``image`` (B, 3, H, W) in [0, 1].

        ``pi`` is the prior presence, ``mu_s`` the prior mean of the box size's logit, ``tau`` the temperature of
        presence; without ``sample`` every latent is its posterior's mean. Noise is drawn in this order: presence,
        uniform (B, N, 1); then normal: depth (B, N, 1), scale (B, N, 2), shift (B, N, 2), what (B, N, D).
        """
        B = len(image)
        scale, shift, pres, depth = self.encoder(image)  # (B, N, 4), (B, N, 4), (B, N, 1), (B, N, 2)
        N = pres.shape[1]
        logit = PRESENCE_BOUND * pres.tanh()
        z_pres = sample_relaxed_bernoulli(logit, tau) if sample else (logit / tau).sigmoid()
        kl = {"pres": bernoulli_kl(logit, pi)}
        z_depth, kl["depth"] = self._infer(depth, 0.0, 1.0, sample)
        z_scale, kl["scale"] = self._infer(scale, mu_s, SCALE_PRIOR_STD, sample)
        z_shift, kl["shift"] = self._infer(shift, 0.0, 1.0, sample)
        z_where = place(z_scale, z_shift)

        glimpses = crop(image, z_where, self.glimpse).flatten(0, 1)  # (B * N, 3, g, g)
        what = self.glimpse_encoder(glimpses).float().view(B, N, -1)
        z_what, kl["what"] = self._infer(what, 0.0, 1.0, sample)
        appearance, alpha = (x.unflatten(0, (B, N)) for x in self.glimpse_decoder(z_what.flatten(0, 1)))
        return Objects(
            compose(appearance, alpha, z_pres, z_depth, z_where, image.shape[-1]),
            {name: value.flatten(1).sum(1) for name, value in kl.items()},
            logit.sigmoid()[..., 0],
            z_where,
            appearance,
        )

    def _infer(self, raw: Tensor, prior_mean: float, prior_std: float, sample: bool) -> tuple[Tensor, Tensor]:
        """A latent (B, N, D) and its KL (B, N, D) from raw mean and std (B, N, 2 D)."""
        mean, std = raw.chunk(2, dim=-1)
        std = F.softplus(std) + self.std_floor
        return sample_normal(mean, std) if sample else mean, normal_kl(mean, std, prior_mean, prior_std)


def place(z_scale: Tensor, z_shift: Tensor) -> Tensor:
    """Boxes (B, N, 4) from latents (B, N, 2) each; a centre moves at most one cell away from its own cell's."""
    return torch.cat([z_scale.sigmoid(), centres(z_shift)], dim=-1)


def compose(appearance: Tensor, alpha: Tensor, z_pres: Tensor, z_depth: Tensor, z_where: Tensor, size: int) -> Canvas:
    """Paste glimpses and merge them by a softmax over cells of their importance.

    ``appearance`` (B, N, 3, g, g), ``alpha`` (B, N, 1, g, g), ``z_pres`` and ``z_depth`` (B, N, 1; small is in
    front), ``z_where`` (B, N, 4). The softmax is over raw importance: where no cell has any, all weigh 1 / N.
    """
    z_pres, z_depth = z_pres[..., None, None], z_depth[..., None, None]  # (B, N, 1, 1, 1)
    alpha = alpha * z_pres
    importance = 100 * alpha * (-z_depth).sigmoid()
    frame = box_frame(alpha.shape[-1], alpha) * z_pres
    pasted = paste(torch.cat([alpha * appearance, alpha, importance, frame], dim=2), z_where, size)
    rgb, alphas, importance, frames = pasted.split([3, 1, 1, 1], dim=2)  # (B, N, ., H, W)
    weights = importance.softmax(dim=1)
    return Canvas((weights * rgb).sum(1), (weights * alphas).sum(1), alphas, frames.sum(1))


def box_frame(glimpse: int, like: Tensor) -> Tensor:
    """The boundary kernel (glimpse, glimpse): 1000 / 1024 on a frame of 6 / 32 of the side, 0 inside.

    Published for glimpses of 32, as 1 / 1024 times a weight of 1000; here a frame is as heavy at any size.
    """
    border = round(6 / 32 * glimpse)
    frame = like.new_full((glimpse, glimpse), 1000 / 1024)
    frame[border:-border, border:-border] = 0
    return frame
