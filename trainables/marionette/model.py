"""MarioNette as a whole: what each anchor shows, how it is painted, and the loss (Smirnov et al. 2021, section 3)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables import noise, optim
from trainables.marionette import canvas
from trainables.marionette.config import Config
from trainables.marionette.networks import GROUPS, Dictionary, Encoder, choice, head, output_layer, standardise
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import half_cosine, linear

EDGE = 1e-5
"""Switches and weights nearer than this to 0 or 1 feel no push towards them."""


class Choice(NamedTuple):
    """What the anchors show: G x G of them in each of N layers."""

    weights: Tensor
    """(B, N, G, G, C): how much of each sprite, summing to 1."""
    switch: Tensor
    """(B, N, G, G) in [0, 1]: whether there is a sprite."""
    tiles: Tensor
    """(B, N, G, G, 4, P, P): the sprites, blended by their weights, in RGBA, neither switched nor shifted."""
    delta: Tensor
    """(B, N, G, G, 2): how far right and down the sprite moves, within half the spacing of the anchors, the unit."""


class Model(SegmentationModel):
    """MarioNette: N layers of G x G anchors that may each show a sprite, before a background.

    Segments are the background, then the anchors: layer by layer from the back, row by row. Noise: one
    ``noise.permutation`` of 4 per forward, the order in which the anchors of the four parities are painted in every
    layer; in evaluation the order is fixed, unless ``replicate``.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        c, self.side = config, 2 * config.anchor_spacing
        if image_size % self.side:
            raise ValueError(
                f"anchor_spacing {c.anchor_spacing} does not fit images of {image_size} pixels; twice the spacing "
                "must divide the size"
            )
        self.grid = image_size // c.anchor_spacing
        self.encoder = Encoder(3, image_size, self.grid, c.code_dim, heads=c.n_layers)
        self.projection = nn.Linear(c.code_dim, c.code_dim)
        self.shift_encoder = Encoder(7, self.side, 1, c.shift_width)
        self.switch_head = head(c.code_dim, 1)
        self.shift_head = head(c.shift_width, 2)
        self.sprites = Dictionary(c.n_sprites, c.code_dim, 4, self.side)
        if c.n_backgrounds > 1 or c.replicate:
            self.background_encoder = Encoder(3, image_size, 1, c.background_dim)
            self.background_projection = nn.Linear(c.background_dim, c.background_dim)
        self.backgrounds = Dictionary(c.n_backgrounds, c.background_dim, 3, image_size)
        if c.replicate:
            for module in self.modules():
                if isinstance(module, nn.GroupNorm):
                    module.num_groups = GROUPS
        with torch.no_grad():
            output_layer(self.switch_head).bias.add_(c.switch_bias)
            output_layer(self.sprites.decoder).bias.view(4, -1)[3].add_(c.alpha_bias)

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Let every background be the mean of ``images`` (B, 3, S, S), if so configured."""
        if self.config.background_init == "mean":
            last = output_layer(self.backgrounds.decoder)
            last.weight.zero_()
            last.bias.copy_(images.mean(0).flatten().logit(eps=0.01))

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, S, S) as of training step ``step``; ``boxes`` and ``presence`` are the anchors'.

        Terms: ``mse``, the mean over pixels and channels; ``beta_choice`` and ``beta_switch``, the mean densities
        whose mean ``lambda_beta`` weighs; ``switch``, the mean switch, and its weight ``lambda_switch``;
        ``sprites``, how many of the dictionary are in use (the exponential of the entropy of their mean weight).
        """
        c, B, N = self.config, len(image), self.config.n_layers
        chosen = self.choose(image)
        background = self.background(image)  # (B, 3, S, S), or of one image for all
        with torch.autocast(image.device.type, enabled=False):
            images = self.draw(chosen)  # (B, N, 4, 4, S, S)
            order = torch.arange(4, device=image.device)
            if self.training or c.replicate:
                order = noise.permutation(4, image)
            stack = canvas.composite(background, images[:, :, order].flatten(1, 2))

            price = linear(step, 0.0, c.lambda_switch, 0, c.lambda_switch_frac * c.steps)
            terms = {
                "mse": (stack.image - image).square().mean(),
                "beta_choice": beta_density(chosen.weights).mean(),
                "beta_switch": beta_density(chosen.switch).mean(),
                "switch": chosen.switch.mean(),
                "lambda_switch": torch.tensor(price),
                "sprites": torch.special.entr(chosen.weights.detach().mean((0, 1, 2, 3))).sum().exp(),
            }
            beta = (terms["beta_choice"] + terms["beta_switch"]) / 2
            loss = terms["mse"] + c.lambda_beta * beta + price * terms["switch"]

        def segments(maps: Tensor, behind: Tensor) -> Tensor:
            """The map ``behind`` (B, 1, C, S, S) and one per anchor, out of ``maps`` (B, N, 4, C, S, S)."""
            return torch.cat([behind, canvas.spread(maps.detach(), self.grid, c.anchor_spacing)], dim=1).detach()

        return SegmentationOutput(
            loss,
            stack.image,
            lambda: segments(stack.visible.unflatten(1, (N, 4))[:, :, order.argsort()], stack.background[:, None]),
            terms,
            appearances=lambda: segments(images[:, :, :, :3], background.expand(B, -1, -1, -1)[:, None]),
            boxes=canvas.boxes(chosen.delta.detach(), self.grid, c.anchor_spacing),
            presence=chosen.switch.detach().flatten(1),
        )

    def choose(self, image: Tensor) -> Choice:
        """What each anchor shows of ``image`` (B, 3, S, S)."""
        c = self.config
        codes, sprites = self.sprites()  # (C, d), (C, 4, P, P)
        z = self.encoder(image)  # (B, N, G, G, d)
        lattice = z.shape[:-1]
        z = z.flatten(0, -2)  # (M, d), M = B N G^2
        switch = self.switch_head(z).float().sigmoid()  # (M, 1)
        queries = standardise(self.projection(z))
        with torch.autocast(image.device.type, enabled=False):  # saturated logits and the sprites need float32
            weights = choice(queries, codes, c.logit_scale)  # (M, C)
            tiles = (weights @ sprites.flatten(1)).unflatten(1, sprites.shape[1:])  # (M, 4, P, P)
            seen = canvas.crops(image.float(), c.anchor_spacing)  # (B, G^2, 3, P, P)
        seen = seen[:, None].expand(-1, c.n_layers, -1, -1, -1, -1).flatten(0, 2)
        glimpses = torch.cat([seen, tiles], dim=1)  # (M, 7, P, P)
        delta = self.shift_head(self.shift_encoder(glimpses).flatten(1)).float().tanh() / 2  # (M, 2)
        if c.hard_eval == "all" and not self.training:
            tiles = sprites[weights.argmax(1)]
        return Choice(*(x.unflatten(0, lattice) for x in (weights, switch[:, 0], tiles, delta)))

    def background(self, image: Tensor) -> Tensor:
        """The picture (B, 3, S, S) behind ``image``, or (1, 3, S, S) where all images have the same."""
        codes, pictures = self.backgrounds()  # (M, e), (M, 3, S, S)
        if self.config.n_backgrounds == 1:  # chosen for certain, whatever the encoder may say
            return pictures
        queries = standardise(self.background_projection(self.background_encoder(image).flatten(1)))
        with torch.autocast(image.device.type, enabled=False):
            return (choice(queries, codes) @ pictures.flatten(1)).unflatten(1, pictures.shape[1:])

    def draw(self, chosen: Choice) -> Tensor:
        """The switched and shifted tiles of each parity, painted: (B, N, 4, 4, S, S)."""
        c, switch = self.config, chosen.switch
        if c.hard_eval != "off" and not self.training:
            switch = switch.round()
        elif c.switch == "straight_through":
            switch = switch.round() + switch - switch.detach()
        switch = switch[..., None, None, None]  # (B, N, G, G, 1, 1, 1)
        colour, alpha = chosen.tiles.split([3, 1], dim=4)
        tiles = torch.cat([switch * colour if c.switch_scales_colour else colour, switch * alpha], dim=4)
        shifted = canvas.shift(tiles.flatten(0, 3), chosen.delta.flatten(0, 3))
        return canvas.paint(shifted.unflatten(0, switch.shape[:4]))

    def optimizers(self) -> list[Optimizer]:
        """One optimiser with a second group for the background dictionary, which has a learning rate of its own."""
        c = self.config
        background = list(self.backgrounds.parameters())
        others = [p for name, p in self.named_parameters() if not name.startswith("backgrounds.")]
        groups = [{"params": others}, {"params": background, "lr": c.lr_background}]
        return [optim.build(c.optimizer, groups, c.lr, c.weight_decay)]

    def lr_scale(self, step: int) -> list[float]:
        """Constant, or half a cosine."""
        c = self.config
        return [half_cosine(step, c.steps) if c.schedule == "cosine" else 1.0]


def beta_density(share: Tensor) -> Tensor:
    """The density of Beta(2, 2) at ``share``, elementwise: 1.5 at 1/2, 0 at 0 and 1."""
    share = share.clamp(EDGE, 1 - EDGE)
    return 6 * share * (1 - share)
