"""The two networks of IODINE, shared by all slots and iterations: latent -> colours and mask; evidence -> update.

Axes: B batch, K slots, Z latent dimensions, C channels, H W pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.iodine.config import Config
from trainables.iodine.likelihood import leave_one_out
from trainables.positions import coordinates
from trainables.spatial_broadcast import broadcast_conv


class Scene(NamedTuple):
    """What the slots show, and how well it explains the image."""

    colour: Tensor
    """(B, K, 3, H, W) in [0, 1]."""
    logits: Tensor
    """(B, K, 1, H, W): the masks before their softmax over slots."""
    log_masks: Tensor
    """(B, K, 1, H, W)."""
    likelihoods: Tensor
    """(B, K, C', H, W): log-likelihood of each slot alone, see ``likelihood.log_likelihoods``."""
    log_p: Tensor
    """(B, 1, H, W): log-likelihood of the mixture."""


class Gradients(NamedTuple):
    """Derivatives of the negative ELBO; constants."""

    colour: Tensor
    """(B, K, 3, H, W)."""
    log_masks: Tensor
    """(B, K, 1, H, W)."""
    posterior: Tensor
    """(B, K, 2Z)."""


State = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, each (B*K, lstm_dim)."""


class Decoder(nn.Module):
    """Latent -> colours and mask logits of every pixel: the spatial broadcast decoder, each slot alone.

    Its convolutions have no padding; instead the latent is broadcast on a wider canvas.
    """

    planes: Tensor

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        c, kernel = config.dec_channels, config.dec_kernel
        self.first = nn.Conv2d(config.z_size + 2, c, kernel)
        layers: list[nn.Module] = [nn.ELU(inplace=True)]
        for _ in range(config.dec_layers - 1):
            layers += [nn.Conv2d(c, c, kernel), nn.ELU(inplace=True)]
        self.rest = nn.Sequential(*layers, nn.Conv2d(c, 4, 1))
        planes = coordinates(image_size + config.dec_layers * (kernel - 1)).flip(0)[None]  # columns, then rows
        # channels last: the convolutions take over the layout and need half the time
        self.register_buffer("planes", planes.contiguous(memory_format=torch.channels_last), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, K, 3, H, W) in [0, 1] and mask logits (B, K, 1, H, W) of ``z`` (B, K, Z)."""
        x = self.rest(broadcast_conv(self.first, z.flatten(0, 1), self.planes))  # (B*K, 4, H, W)
        colour, logits = x.float().contiguous().unflatten(0, z.shape[:2]).split([3, 1], dim=2)
        return colour.sigmoid(), logits


class Refinement(nn.Module):
    """What is known of a slot -> the change of its posterior (Greff et al. 2019, section 3.3)."""

    planes: Tensor

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        c, hidden = config.refine_channels, config.lstm_dim
        self.log_scale = config.replicate
        layers: list[nn.Module] = []
        for channels in (17, c, c, c):
            layers += [nn.Conv2d(channels, c, 3, 2, 1), nn.ELU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.linear = nn.Linear(c, hidden)
        self.lstm = nn.LSTMCell(hidden + 4 * config.z_size, hidden)
        self.head = nn.Linear(hidden, 2 * config.z_size)

        def norm(channels: int) -> nn.Module:
            """Statistics over channels and pixels; the published affine map has a weight for each of them."""
            shape = (channels, image_size, image_size)
            return nn.LayerNorm(shape) if config.replicate else nn.GroupNorm(1, channels)

        self.norm_log_p = norm(1)
        self.norm_leave_one_out = norm(1)
        self.norm_colour_gradient = norm(3)
        self.norm_mask_gradient = norm(1)
        self.norm_mean_gradient = nn.LayerNorm(config.z_size)
        self.norm_scale_gradient = nn.LayerNorm(config.z_size)
        self.register_buffer("planes", coordinates(image_size), persistent=False)  # (2, H, W): rows, then columns

    def forward(
        self, image: Tensor, scene: Scene, gradients: Gradients, posterior: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        """What to add to ``posterior`` (B, K, 2Z), of that shape, and the LSTM's next state.

        ``image`` is (B, 3, H, W); the first ``state`` is None, for zeros.
        """
        features = self.conv(self.maps(image, scene, gradients)).mean((2, 3))  # (B*K, C)
        mean_gradient, scale_gradient = gradients.posterior.chunk(2, dim=2)
        with torch.autocast(image.device.type, enabled=False):  # the LSTM's memory needs float32
            evidence = [
                nn.functional.elu(self.linear(features.float())),
                posterior.flatten(0, 1),
                self.norm_mean_gradient(mean_gradient).flatten(0, 1),
                self.norm_scale_gradient(scale_gradient).flatten(0, 1),
            ]
            state = self.lstm(torch.cat(evidence, dim=1), state)
            return self.head(state[0]).view_as(posterior), state

    def maps(self, image: Tensor, scene: Scene, gradients: Gradients) -> Tensor:
        """(B*K, 17, H, W): the image-shaped evidence, in the published order."""
        slots = scene.colour.shape[:2]
        fit = scene.likelihoods.sum(2, keepdim=True)  # (B, K, 1, H, W)
        alone = leave_one_out(scene.log_masks, scene.likelihoods)

        def each(norm: nn.Module, x: Tensor) -> Tensor:
            return norm(x.flatten(0, 1)).unflatten(0, slots)

        def same(x: Tensor) -> Tensor:
            return x.expand(*slots, -1, -1, -1)

        maps = [
            same(image[:, None]),
            scene.colour,
            scene.log_masks,
            scene.logits,
            fit.log_softmax(1) if self.log_scale else fit.softmax(1),  # who would explain the pixel best
            each(self.norm_colour_gradient, gradients.colour),
            each(self.norm_mask_gradient, gradients.log_masks),
            same(self.norm_log_p(scene.log_p.detach())[:, None]),
            each(self.norm_leave_one_out, alone),
            same(self.planes),
        ]
        return torch.cat(maps, dim=2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
