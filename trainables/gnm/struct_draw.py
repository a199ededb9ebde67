"""StructDRAW: the distributed latent z_g, inferred and drawn in a few autoregressive steps (Jiang and Ahn 2020, 3.2).

Axes: B batch, S steps, E feature channels, G cells per side, D latent dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.distributions import normal_kl
from trainables.gnm.config import Config
from trainables.gnm.networks import Normal, mlp


class GlobalLatent(NamedTuple):
    """What is inferred of a batch of images."""

    canvas: Tensor
    """(B, E, G, G): the drawn feature map, from which the prior of the objects is read."""
    z: Tensor
    """(B, S * D): the latents of all steps."""
    kl: Tensor
    """(B, S, D): KL of each latent to its prior, in nats."""


class ConvLSTM(nn.Module):
    """An LSTM at every cell of a map, alike and apart from its neighbours, with a learnt initial state."""

    def __init__(self, inputs: int, hidden: int, grid: int):
        super().__init__()
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, 1)
        self.h0 = nn.Parameter(torch.zeros(1, hidden, grid, grid))
        self.c0 = nn.Parameter(torch.zeros(1, hidden, grid, grid))

    def start(self, B: int) -> tuple[Tensor, Tensor]:
        """Hidden and cell state before the first step, (B, E, G, G) each."""
        return self.h0.expand(B, -1, -1, -1), self.c0.expand(B, -1, -1, -1)

    def forward(self, inputs: list[Tensor], state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The next ``state``, (B, E, G, G) each; ``inputs`` are maps (B, ., G, G)."""
        h, c = state
        i, f, o, g = self.gates(torch.cat([*inputs, h], dim=1)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class StructDraw(nn.Module):
    """Infers z_g from the features of images and draws it onto a canvas of features."""

    def __init__(self, config: Config, grid: int):
        super().__init__()
        E, D, hidden = config.feature_dim, config.z_global_dim, config.hidden_dim
        self.grid = grid
        self.steps = config.draw_steps
        self.std_floor = config.std_floor
        self.prior = mlp(E * grid**2, hidden, hidden, 2 * D)
        self.posterior = mlp(E * grid**2, hidden, hidden, 2 * D)
        self.latent_decoder = mlp(D, hidden, 2 * hidden, E * grid**2, plain_output=False)
        self.encoder_lstm = ConvLSTM(3 * E, E, grid)
        self.decoder_lstm = ConvLSTM(2 * E, E, grid)
        self.to_canvas = nn.Conv2d(E, E, 3, 1, 1)

    def forward(self, features: Tensor, sample: bool) -> GlobalLatent:
        """z_g of ``features`` (B, E, G, G); without ``sample``, its posterior's mean.

        Noise is normal: for each of the S steps (B, D).
        """
        B = len(features)
        encoder, decoder = self.encoder_lstm.start(B), self.decoder_lstm.start(B)
        canvas = torch.zeros_like(features)
        before, latents, posteriors = [], [], []
        for _ in range(self.steps):
            drawn = decoder[0]
            before.append(drawn)
            encoder = self.encoder_lstm([features, features - canvas, drawn], encoder)
            posterior = Normal.of(self.posterior(channels_last(encoder[0])), 0.0, self.std_floor)
            z = posterior.draw(sample)  # (B, D)
            latent_map = self.latent_decoder(z).view_as(features)
            decoder = self.decoder_lstm([latent_map, canvas], decoder)
            canvas = canvas + self.to_canvas(decoder[0])
            latents.append(z)
            posteriors.append(posterior)
        # a step's prior depends on the decoder before it alone: all of them at once
        prior = Normal.of(self.prior(channels_last(torch.cat(before))), 0.0, self.std_floor)
        means, stds = (torch.cat(moments) for moments in zip(*posteriors, strict=True))  # (S * B, D)
        kl = normal_kl(means, stds, *prior).unflatten(0, (self.steps, B)).transpose(0, 1)
        return GlobalLatent(canvas, torch.cat(latents, dim=1), kl)


def channels_last(features: Tensor) -> Tensor:
    """(B, E, G, G) -> (B, G * G * E), as the published perceptrons read maps."""
    return features.permute(0, 2, 3, 1).flatten(1)
