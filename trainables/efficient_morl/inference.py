"""From image to latents (Emami et al. 2021, section 3): encoder, attention by layers, prior between them, refinement.

A slot's posterior is written as its raw numbers (B, K, 2D), the paper's lambda: the mean and the variance parameter
of ``blocks.normal``.

Axes: B batch, K slots, N tokens, D latent dimensions, C channels, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.conv_blocks import relu_convs, side_after
from trainables.distributions import sample_normal
from trainables.efficient_morl.blocks import Position, normal
from trainables.efficient_morl.config import Config
from trainables.initial_weights import xavier


class Encoder(nn.Module):
    """Image -> position-tagged tokens."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        c = config.enc_channels
        self.conv = relu_convs(c, config.kernel_size, config.strides)
        self.position = Position(c, side_after(config.strides, image_size))
        self.mlp = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c))
        xavier(config.init_gain, self.conv, self.mlp)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens (B, N, C) of ``image`` (B, 3, H, W)."""
        x = self.conv(2 * image - 1).permute(0, 2, 3, 1) + self.position()  # (B, h, w, C)
        return self.mlp(x.flatten(1, 2))


class Posterior(nn.Module):
    """Tokens -> a posterior per slot and layer, from the bottom up; all layers share their weights."""

    def __init__(self, config: Config):
        super().__init__()
        c, d = config.enc_channels, config.z_dim
        self.layers = config.L
        self.initial = nn.Parameter(torch.cat([torch.zeros(d), torch.full((d,), config.s_init)]))
        self.to_k = nn.Linear(c, d, bias=False)
        self.to_v = nn.Linear(c, d, bias=False)
        self.norm_q = nn.LayerNorm(d)
        self.to_q = nn.Linear(d, d, bias=False)
        self.gru_mu = nn.GRUCell(d, d)
        self.gru_s = nn.GRUCell(d, d)
        self.norm_mu = nn.LayerNorm(d)
        self.mlp_mu = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
        self.norm_s = nn.LayerNorm(d)
        change_s = nn.Linear(2 * d, d)
        self.mlp_s = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), change_s)
        xavier(config.init_gain, self)
        nn.init.constant_(change_s.bias, config.s_bias)
        if config.gru_init == "normal":
            for parameter in (*self.gru_mu.parameters(), *self.gru_s.parameters()):
                nn.init.normal_(parameter)

    def forward(self, tokens: Tensor, num_slots: int) -> list[Tensor]:
        """The layers' posteriors, each (B, K, 2D), given ``tokens`` (B, N, C)."""
        k, v = self.to_k(tokens), self.to_v(tokens)  # (B, N, D)
        B = len(k)
        posteriors: list[Tensor] = []
        raw = self.initial.expand(B, num_slots, -1)  # (B, K, 2D)
        for _ in range(self.layers):
            attention = self.attend(sample_normal(*normal(raw)), k)  # (B, K, N)
            update = ((attention / attention.sum(2, keepdim=True)) @ v).flatten(0, 1)  # (B*K, D)
            mu, s = raw.flatten(0, 1).chunk(2, -1)
            mu, s = self.gru_mu(update, mu), self.gru_s(update, s)
            mu, s = mu + self.mlp_mu(self.norm_mu(mu)), s + self.mlp_s(self.norm_s(s))
            raw = torch.cat([mu, s], -1).unflatten(0, (B, num_slots))
            posteriors.append(raw)
        return posteriors

    def attend(self, z: Tensor, k: Tensor) -> Tensor:
        """Attention (B, K, N) of the slots' samples ``z`` (B, K, D), which compete for each of the keys (B, N, D)."""
        q = self.to_q(self.norm_q(z)) * z.shape[-1] ** -0.5  # (B, K, D)
        return (q @ k.mT).softmax(1) + 1e-8


class Prior(nn.Module):
    """What a sample of one layer says about the layer that was inferred before it."""

    def __init__(self, config: Config):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(config.z_dim, config.hidden), nn.ELU())
        self.mu = nn.Linear(config.hidden, config.z_dim)
        self.s = nn.Linear(config.hidden, config.z_dim)
        xavier(config.init_gain, self)

    def forward(self, z: Tensor) -> Tensor:
        """Raw numbers (B, K, 2D) of the prior, given ``z`` (B, K, D)."""
        x = self.net(z)
        return torch.cat([self.mu(x), self.s(x)], -1)


class Refiner(nn.Module):
    """A step of the top posterior, from itself and the gradient of the loss with respect to it."""

    def __init__(self, config: Config):
        super().__init__()
        d = config.z_dim
        self.mlp = nn.Sequential(nn.Linear(4 * d, config.hidden), nn.ELU(), nn.Linear(config.hidden, d))
        self.gru = nn.GRUCell(d, d)
        self.mu = nn.Linear(d, d)
        self.s = nn.Linear(d, d)
        xavier(config.init_gain, self)

    def forward(self, raw: Tensor, gradient: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """The refined posterior (B, K, 2D) and the state (B*K, D), which is None before the first step.

        ``raw`` and ``gradient`` are (B, K, 2D). The gradient is data: nothing is differentiated through it.
        """
        x = torch.cat([raw, normalise(gradient.detach())], -1).flatten(0, 1)  # (B*K, 4D)
        hidden = self.gru(self.mlp(x), hidden)
        change = torch.cat([self.mu(hidden), self.s(hidden)], -1)
        return raw + change.view_as(raw), hidden


def normalise(gradient: Tensor) -> Tensor:
    """Both halves of ``gradient`` (B, K, 2D), each to mean 0 and at most variance 1 over its D numbers."""
    halves = gradient.unflatten(-1, (2, -1))
    return F.layer_norm(halves, halves.shape[-1:]).flatten(-2)
