"""The symbolic objects of GNM: one head reads them from a feature map; boxes and pixels follow from their latents.

Axes: B batch, N = G * G cells, row by row, g side of a glimpse, H W pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.conv_blocks import conv_block
from trainables.distributions import sample_relaxed_bernoulli
from trainables.gnm.config import Config
from trainables.gnm.networks import Normal
from trainables.positions import centres
from trainables.spatial_transformer import paste

PRESENCE_BOUND = 8.8
"""Presence logits are squashed to plus or minus this, so that presence never saturates."""

SIDES = (1e-3, 10.0)
"""Limits of a box's sides, in sides of the image, unless the published model is replicated."""

CURRICULUM_PRESENCE = 0.99
"""Largest presence while alpha is fixed."""

EPSILON = 1e-15
"""Importance that belongs to no object, so that pixels without objects can be normalised."""


class Symbols(NamedTuple):
    """The distribution of every cell's latents."""

    pres: Tensor
    """(B, N, 1): logits."""
    where: Normal
    """(B, N, 4): logit of the box's size, logarithm of its height over its width, raw shift right and down."""
    depth: Normal
    """(B, N, 1): small is in front."""
    what: Normal
    """(B, N, D): appearance."""


class Latents(NamedTuple):
    """What was drawn from :class:`Symbols`; shapes as there."""

    pres: Tensor
    where: Tensor
    depth: Tensor
    what: Tensor


class Scene(NamedTuple):
    """Objects in front of a background."""

    image: Tensor
    """(B, 3, H, W)."""
    alphas: Tensor
    """(B, N, 1, H, W) in [0, 1]: each cell's alpha times presence; neither ordered by depth nor normalised."""


class ObjectHead(nn.Module):
    """Feature map (B, E, G, G) -> Symbols. The same head reads the posterior (of images) and the prior (of z_g)."""

    def __init__(self, config: Config):
        super().__init__()
        E = config.feature_dim
        self.std_bias, self.std_floor = config.std_bias, config.std_floor
        self.trunk = nn.Sequential(conv_block(E, E, 1), conv_block(E, E, 1))
        self.pres = nn.Conv2d(E, 1, 1)
        self.where = nn.Conv2d(E, 8, 1)
        self.depth = nn.Conv2d(E, 2, 1)
        self.what = nn.Conv2d(E, 2 * config.z_what_dim, 1)
        nn.init.uniform_(self.where.weight, -0.01, 0.01)
        assert self.where.bias is not None
        nn.init.zeros_(self.where.bias)
        with torch.no_grad():
            self.where.bias[0] = config.scale_init

    def forward(self, features: Tensor) -> Symbols:
        """Symbols of ``features`` (B, E, G, G)."""
        features = self.trunk(features)
        heads = (self.pres, self.where, self.depth, self.what)
        pres, *others = (head(features).float().flatten(2).mT for head in heads)  # (B, N, .)
        return Symbols(PRESENCE_BOUND * pres.tanh(), *(Normal.of(raw, self.std_bias, self.std_floor) for raw in others))


def draw(symbols: Symbols, tau: float, sample: bool) -> Latents:
    """Latents of ``symbols``; without ``sample``, the likeliest, so that an object is there or not.

    Noise is drawn in this order: presence, uniform (B, N, 1); then normal: where (B, N, 4), depth (B, N, 1), what
    (B, N, D). ``tau`` is the temperature of presence.
    """
    logits = symbols.pres
    pres = sample_relaxed_bernoulli(logits, tau) if sample else (logits > 0).to(logits.dtype)
    return Latents(pres, *(normal.draw(sample) for normal in symbols[1:]))


def place(where: Tensor, limits: tuple[float, float] | None = SIDES) -> Tensor:
    """Boxes (B, N, 4), see ``trainables.spatial_transformer``, of raw latents ``where`` (B, N, 4).

    A centre moves at most one cell away from its own cell's. Sides are kept within ``limits``, if any.
    """
    size, ratio, shift = where.split([1, 1, 2], dim=-1)
    sides = nn.functional.logsigmoid(size) + torch.cat([-ratio, ratio], dim=-1) / 2  # (B, N, 2): logarithms
    if limits is not None:
        low, high = torch.tensor(limits).log().tolist()
        sides = sides.clamp(low, high)
    return torch.cat([sides.exp(), centres(shift)], dim=-1)


def render(
    colours: Tensor,
    alphas: Tensor,
    pres: Tensor,
    depth: Tensor,
    boxes: Tensor,
    background: Tensor,
    fixed_alpha: float | None = None,
) -> Scene:
    """Paste glimpses, weigh them by depth where they overlap, and put them in front of the background.

    ``colours`` (B, N, 3, g, g), ``alphas`` (B, N, 1, g, g), ``pres`` and ``depth`` (B, N, 1), ``boxes`` (B, N, 4),
    ``background`` (B, 3, H, W). With ``fixed_alpha`` the background shows through by 1 - ``fixed_alpha`` everywhere.
    """
    if fixed_alpha is not None:
        pres = pres.clamp(max=CURRICULUM_PRESENCE)
    alphas = alphas * pres[..., None, None]
    pasted = paste(torch.cat([alphas * colours, alphas], dim=2), boxes, background.shape[-1])
    objects, alphas = pasted.split([3, 1], dim=2)  # (B, N, ., H, W)
    # pasting is linear: importance, alpha times a number per object, need not be pasted by itself
    importance = alphas * (-depth).sigmoid()[..., None, None]
    foreground = (importance * objects).sum(1) / (importance.sum(1) + EPSILON)
    alpha = clamp_straight_through(alphas.sum(1)) if fixed_alpha is None else fixed_alpha
    return Scene(foreground + (1 - alpha) * background, alphas)


def clamp_straight_through(alpha: Tensor) -> Tensor:
    """``alpha``, which overlaps may lift above 1, clamped to [0, 1] with the gradient of the identity."""
    return alpha + (alpha.clamp(EPSILON, 1 - EPSILON) - alpha).detach()
