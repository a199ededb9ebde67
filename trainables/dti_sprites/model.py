"""DTI-Sprites as a whole: a few sprites and one background, shared by all images, explain each by layers."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables import noise, optim
from trainables.dti_sprites.config import Config
from trainables.dti_sprites.layering import covering, search, segment, weigh
from trainables.dti_sprites.networks import Heads, ResNet18, SmallEncoder
from trainables.dti_sprites.transformations import bend, place, recolour, soft_clamp
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import warm_up
from trainables.spatial_transformer import paste, pixel_boxes

REASSIGN_BELOW = 0.2
"""A sprite is unused if its use is below this share of 1 / K times that of the most used one."""

REASSIGN_STD = 1e-4
"""Standard deviation of the noise that makes copies of a sprite differ, in intensities of [0, 1]."""


class Model(SegmentationModel):
    """DTI-Sprites: K sprites and a background as parameters, L layers that each show one sprite or none.

    An encoder with heads predicts how each layer would show each sprite; a search without gradient picks one per
    layer; the squared error is minimised through what was picked. Sprites may show up in several layers, and every
    layer has transformations of its own. Segments are the background, then the layers.

    Noise: one ``noise.uniform`` of shape (K + 1, 1, H, W) per forward in training, the last for the empty sprite; one
    ``noise.normal`` of the sprites' shape when sprites are reassigned. Evaluation is deterministic.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        K, L = config.n_sprites, config.num_slots - 1
        side = max(2, round(config.sprite_frac * image_size))
        across = torch.arange(side) - (side - 1) / 2
        bump = (-0.5 * (across / (side / 4)) ** 2).exp()
        self.sprites = nn.Parameter(torch.full((K, 3, side, side), 0.9))
        self.masks = nn.Parameter((bump[:, None] * bump).expand(K, 1, side, side).clone())
        self.background = nn.Parameter(torch.full((1, 3, image_size, image_size), 0.5))
        encoder = ResNet18 if config.encoder == "resnet18" else SmallEncoder
        self.encoder = encoder(config.enc_channels, image_size)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(config.pool_size), nn.Flatten())

        def heads(outputs: int, *shape: int) -> Heads:
            return Heads(shape, self.encoder.outputs * config.pool_size**2, config.head_hidden, outputs)

        outputs = {"color": 6, "projective": 9}
        self.sprite_heads = nn.ModuleDict(
            {name: heads(n, L, K) for name, n in outputs.items() if name in config.sprite_transform}
        )
        color, position = heads(6, L), heads(3, L)
        self.layer_heads = nn.ModuleDict({"color": color, "position": position})
        self.background_heads = nn.ModuleDict(
            {name: heads(n) for name, n in outputs.items() if name in config.background_transform}
        )
        self.occlusion_head = heads(L * (L - 1) // 2)
        position.last.bias.data.copy_(scattered(L, config.position_spread, config.scale_init))
        self.register_buffer("usage", torch.zeros(K))
        self.usage: Tensor
        """(K,): share of the layers that showed each sprite, summed over the steps since sprites were last judged."""
        self.register_buffer("reassigned", torch.zeros(()))
        self.reassigned: Tensor
        """Sprites reassigned so far."""
        self._optimizers: list[Optimizer] = []

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """The background starts as the mean of ``images`` (B, 3, H, W); published, of 100 training images."""
        self.background.copy_(images.mean(0, keepdim=True))

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W) as of training step ``step``; the loss is the mean squared error.

        Terms: ``empty``, the share of layers that show nothing; ``usage_k``, the share of layers that show sprite k;
        ``occlusion``, how far pairs of layers are from an undecided order, at most 0.5; ``coverage``, the least sum of
        a pixel's weights; ``reassigned``, sprites reassigned so far; ``frozen`` and ``projective``, whether they are.
        """
        c = self.config
        frozen, projective = step < c.freeze_frac * c.steps, step >= c.projective_frac * c.steps
        features = self.pool(self.encoder(image))  # (B, D)

        def predict(heads: nn.ModuleDict) -> dict[str, Tensor]:
            return {name: head(features) for name, head in heads.items() if name != "projective" or projective}

        by_layer, by_sprite, by_image = map(predict, (self.layer_heads, self.sprite_heads, self.background_heads))
        logits = self.occlusion_head(features)
        with torch.autocast(image.device.type, enabled=False):
            over = covering(logits, c.num_slots - 1)
            ground = recolour(soft_clamp(self.background), by_image["color"])  # (B, 3, H, W)
            if "projective" in by_image:
                ground = bend(ground, by_image["projective"], padding="border", replicate=c.replicate)
            texture, mask_noise = self._textures()  # (K, C, h, h), (K, 1, H, W) or None
            if frozen:
                texture = texture.detach()
            colour, boxes = by_layer["color"], place(by_layer["position"])  # (B, L, 6), (B, L, 4)
            with torch.no_grad():
                every = texture.expand(*boxes.shape[:2], *texture.shape)
                candidates = self._draw(every, by_sprite, colour, boxes, mask_noise)
                picks = search(image, ground, *candidates, over, c.greedy_iters, None if frozen else c.lambda_empty)
                del candidates
                sprite = torch.arange(c.n_sprites, device=picks.device)
                chosen = (picks[..., None] == sprite).float()  # (B, L, K), all 0 where empty
            # only what was picked is drawn again with a gradient: K times less to remember
            texture = (chosen @ texture.flatten(1)).view(*picks.shape, 1, *texture.shape[1:])  # (B, L, 1, C, h, h)
            by_sprite = {name: (chosen[..., None] * value).sum(2, keepdim=True) for name, value in by_sprite.items()}
            if mask_noise is not None:
                mask_noise = (chosen @ mask_noise.flatten(1)).view(*picks.shape, 1, *mask_noise.shape[1:])
            colours, alphas = self._draw(texture, by_sprite, colour, boxes, mask_noise)
            colours, alphas = torch.cat([ground[:, None], colours[:, :, 0]], dim=1), alphas[:, :, 0]
            weights = weigh(alphas, over)  # (B, L + 1, 1, H, W)
            reconstruction = (weights * colours).sum(1)
            loss = (reconstruction - image).square().mean()
        usage = chosen.mean((0, 1))  # (K,)
        terms = {
            "empty": 1 - usage.sum(),
            "occlusion": (logits.detach().sigmoid() - 0.5).abs().sum() / max(1, logits.numel()),
            "coverage": weights.detach().sum(1).min(),
            "reassigned": self.reassigned.clone(),
            "frozen": torch.tensor(float(frozen)),
            "projective": torch.tensor(float(projective)),
            **{f"usage_{k}": share for k, share in enumerate(usage)},
        }
        return SegmentationOutput(
            loss,
            reconstruction,
            lambda: segment(alphas, over),
            terms,
            appearances=lambda: colours.clamp(0, 1),
            boxes=pixel_boxes(boxes.detach(), self.image_size),
            presence=chosen.sum(-1),
        )

    def _textures(self) -> tuple[Tensor, Tensor | None]:
        """Sprites as they are warped (K, C, h, h): colour and mask, and in training, for the noise, where a sprite is.

        With them the noise (K, 1, H, W) on the warped masks, the same for all of the batch, or None in evaluation.
        """
        c = self.config
        colour = soft_clamp(self.sprites)
        if not self.training or not c.inject_noise:
            return torch.cat([colour, soft_clamp(self.masks)], dim=1), None
        shape = (c.n_sprites + 1, 1, self.image_size, self.image_size)
        with noise.shared():
            drawn = noise.uniform(shape, self.masks)[:-1]  # the last is the empty sprite's
        mask_noise = c.inject_noise * (2 * drawn - 1)
        return torch.cat([colour, self.masks, torch.ones_like(self.masks)], dim=1), mask_noise

    def _draw(
        self,
        texture: Tensor,
        by_sprite: dict[str, Tensor],
        colour: Tensor,
        boxes: Tensor,
        mask_noise: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Colours (B, L, M, 3, H, W) and alphas (B, L, M, 1, H, W) of ``texture`` (B, L, M, C, h, h) on the canvas.

        ``by_sprite`` holds transformations (B, L, M, .); ``colour`` (B, L, 6) and ``boxes`` (B, L, 4) are the layers';
        ``mask_noise`` broadcasts against the alphas.
        """
        B, L, M, C, h, _ = texture.shape
        rgb, rest = texture.split([3, C - 3], dim=3)
        if "color" in by_sprite:
            rgb = recolour(rgb, by_sprite["color"])
        if "projective" in by_sprite:
            warped = bend(torch.cat([rgb, rest], dim=3), by_sprite["projective"], replicate=self.config.replicate)
            rgb, rest = warped.split([3, C - 3], dim=3)
        rgb = recolour(rgb, colour[:, :, None])
        canvas = paste(torch.cat([rgb, rest], dim=3).view(B, L, M * C, h, h), boxes, self.image_size)
        canvas = canvas.unflatten(2, (M, C))  # (B, L, M, C, H, W)
        colours, alphas = canvas[:, :, :, :3], canvas[:, :, :, 3:4]
        if mask_noise is not None:
            alphas = soft_clamp(torch.addcmul(alphas, canvas[:, :, :, 4:], mask_noise))
        return colours, alphas

    def optimizers(self) -> list[Optimizer]:
        """One for sprites and background, whose rate stays and does not decay; one for encoder and heads."""
        c = self.config
        appearance = [self.sprites, self.masks, self.background]
        encoder = list(self.encoder.parameters())
        apart = {id(parameter) for parameter in (*appearance, *encoder)}
        heads = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        encoder_group: dict[str, Any] = {"params": encoder, "lr": c.lr * c.encoder_lr_mult}
        if c.replicate:
            # each layer, the background and the occlusion list the encoder that they share: as many updates per step
            encoder_group |= {"params": (c.num_slots + 1) * encoder, "foreach": False}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*duplicate parameters")
            self._optimizers = [
                optim.build(c.optimizer, appearance, c.lr * c.sprite_lr_mult),
                optim.build(c.optimizer, [encoder_group, {"params": heads}], c.lr, c.weight_decay),
            ]
        return self._optimizers

    def lr_scale(self, step: int) -> list[float]:
        """Both warm up linearly; that of encoder and heads falls to a tenth twice."""
        c = self.config
        rise = warm_up(step, c.warmup_frac * c.steps, from_zero=c.replicate)
        drops = sum(step >= share * c.steps for share in (c.lr_drop1_frac, c.lr_drop2_frac))
        return [rise, rise * 0.1**drops]

    def after_step(self, step: int, output: SegmentationOutput) -> None:
        """Count which sprites are used; every ``reassign_every`` steps, unused ones become copies of the most used."""
        c = self.config
        if step < c.freeze_frac * c.steps:
            return
        self.usage += torch.stack([output.terms[f"usage_{k}"] for k in range(c.n_sprites)])
        if (step + 1) % c.reassign_every == 0:
            self._reassign()
            self.usage.zero_()

    @torch.no_grad()
    def _reassign(self) -> None:
        """Copy the most used sprite, its heads and the optimisers' moments of both, over unused ones.

        The published code differs, see docs/models.md.
        """
        best = self.usage.argmax()
        unused = self.usage < REASSIGN_BELOW / len(self.usage) * self.usage[best]  # (K,)
        if not unused.any():
            return
        rows = [(parameter, 0) for parameter in (self.sprites, self.masks)]
        rows += [(parameter, 1) for parameter in self.sprite_heads.parameters()]
        for parameter, axis in rows:
            moments = [m for o in self._optimizers for m in o.state.get(parameter, {}).values() if m.ndim]
            for tensor in (parameter, *moments):
                by_sprite = tensor.movedim(axis, 0)
                by_sprite[unused] = by_sprite[best].clone()
        unused[best] = True
        self.sprites[unused] += REASSIGN_STD * noise.normal(self.sprites.shape, self.sprites)[unused]
        self.reassigned += unused.sum() - 1


def scattered(layers: int, spread: float, side: float) -> Tensor:
    """Positions (L, 3), see ``place``, of sprites with a side of ``side`` canvases, spread evenly over a square.

    The square reaches from -``spread`` to ``spread`` on the canvas. The points are the R2 sequence (Roberts 2018, "The
    unreasonable effectiveness of quasirandom sequences"): even for any number of layers.
    """
    steps = torch.tensor([0.7548776662, 0.5698402910])
    centres = spread * (2 * ((0.5 + torch.arange(layers)[:, None] * steps) % 1) - 1)  # (L, 2)
    return torch.cat([torch.full((layers, 1), math.log(1 / side - 1)), -centres / side], dim=1)
