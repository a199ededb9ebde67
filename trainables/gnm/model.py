"""GNM as a whole: inference, rendering and the evidence lower bound with its auxiliary priors."""

import torch
from torch import Tensor

from trainables.distributions import bernoulli_kl, normal_kl, normal_log_density
from trainables.gnm.config import Config
from trainables.gnm.networks import BackgroundDecoder, GlimpseDecoder, ImageEncoder, Normal, mlp
from trainables.gnm.objects import SIDES, Latents, ObjectHead, Symbols, draw, place, render
from trainables.gnm.struct_draw import StructDraw
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import half_cosine, linear
from trainables.spatial_transformer import paste, pixel_boxes, segment

HALVINGS = {32: 3, 64: 4, 96: 4, 128: 5}
"""How often the encoder halves an image, by image size: a grid of 4 x 4 cells, or 6 x 6 at 96."""

GLIMPSE_FACTORS = {32: (2, 2, 2, 2), 64: (2, 2, 2, 2, 2), 96: (3, 2, 2, 2, 2), 128: (2, 2, 2, 2, 2, 2)}
"""Upsampling factors of the glimpse decoder, by image size; a glimpse has half the side of the image."""

BACKGROUND_FACTORS = {32: (4, 2, 4), 64: (4, 2, 4, 2), 96: (3, 2, 4, 2, 2), 128: (4, 2, 4, 2, 2)}
"""Upsampling factors of the background decoder, by image size."""

RATIO_PRIOR_STD = 0.3
"""Auxiliary prior's standard deviation of the logarithm of a box's height over its width."""

PRESENCE_FLOOR = 1e-5
"""Least presence by which the auxiliary KLs of a cell count."""


class Model(SegmentationModel):
    """GNM: a grid of cells that each may hold an object, before a background.

    Segments are the background, then the cells, row by row.
    """

    auxiliary_mean: Tensor
    auxiliary_std: Tensor

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        if image_size not in HALVINGS:
            raise ValueError(f"image size {image_size} does not fit GNM; use {', '.join(map(str, HALVINGS))}")
        grid = image_size >> HALVINGS[image_size]
        E, hidden, D = config.feature_dim, config.hidden_dim, config.z_bg_dim
        self.image_encoder = ImageEncoder(E, HALVINGS[image_size])
        self.struct_draw = StructDraw(config, grid)
        self.object_head = ObjectHead(config)
        self.glimpse_decoder = GlimpseDecoder(config.z_what_dim, GLIMPSE_FACTORS[image_size])
        self.background_encoder = mlp(E * grid**2, hidden, hidden // 2, 2 * D)
        self.background_prior = mlp(config.draw_steps * config.z_global_dim, E, E // 2, 2 * D)
        self.background_decoder = BackgroundDecoder(D, BACKGROUND_FACTORS[image_size])
        self.register_buffer("auxiliary_mean", torch.tensor([config.scale_prior_mean, 0, 0, 0]), persistent=False)
        std = torch.tensor([config.scale_prior_std, RATIO_PRIOR_STD, *2 * [config.shift_prior_std]])
        self.register_buffer("auxiliary_std", std, persistent=False)

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W) as of training step ``step``.

        In evaluation every latent is the likeliest, unless the configuration says otherwise. Noise is drawn for the
        background (B, z_bg_dim), then in StructDRAW, then for the objects. The terms that begin with ``nll``, ``kl``
        and ``aux`` are the parts of the loss in nats, before their weights; ``count`` is the expected number of
        objects per image.
        """
        c = self.config
        sample = self.training or c.sample_posterior or c.replicate
        schedules = self.schedules(step)
        # latents, their KLs and the LSTMs' memory stay in float32; half precision suits the convolutions
        features = self.image_encoder((image - c.input_mean) / c.input_std).float()  # (B, E, G, G)
        with torch.autocast(image.device.type, enabled=False):
            ground = self._normal(self.background_encoder(features.flatten(1)))
            z_bg = ground.draw(sample)  # (B, D)
            z_g = self.struct_draw(features, sample)
            ground_prior = self._normal(self.background_prior(z_g.z))
            prior, posterior = self.object_head(z_g.canvas), self.object_head(features)
            latents = draw(posterior, schedules["tau"], sample)
            boxes = place(latents.where, None if c.replicate else SIDES)  # (B, N, 4)
        colours, alphas = self.glimpse_decoder(latents.what)  # (B, N, 3, g, g), (B, N, 1, g, g)
        background = self.background_decoder(z_bg)  # (B, 3, H, W)
        # as published, not yet at step 0
        fixed = c.curriculum_alpha if 0 < step < self._at(c.curriculum_frac) else None
        with torch.autocast(image.device.type, enabled=False):
            scene = render(colours, alphas, latents.pres, latents.depth, boxes, background, fixed)
            nll = -normal_log_density(image, scene.image, c.sigma).flatten(1).sum(1).mean()
            elementwise = {
                "kl_global": z_g.kl,
                "kl_bg": ground.kl(ground_prior),
                "aux_bg": normal_kl(*ground, 0.0, 1.0),
                **self._object_kl(posterior, prior, latents, schedules["rho"]),
            }
            kl = {name: value.flatten(1).sum(1).mean() for name, value in elementwise.items()}
            loss = nll + c.kl_weight * self._weighted(kl, schedules)
        presence = posterior.pres.detach().sigmoid()[..., 0]  # (B, N)
        terms = {"nll": nll, **kl, "count": presence.sum(1).mean()}
        terms |= {name: torch.tensor(value) for name, value in schedules.items()}
        return SegmentationOutput(
            loss,
            scene.image,
            lambda: segment(scene.alphas.detach()),
            terms,
            appearances=lambda: self._appearances(background, colours, boxes),
            boxes=pixel_boxes(boxes.detach(), self.image_size),
            presence=presence,
        )

    def schedules(self, step: int) -> dict[str, float]:
        """Temperature ``tau``, prior presence ``rho`` and the weights of KL terms that change, at ``step``."""
        c = self.config
        return {
            "tau": linear(step, 1.0, c.tau_end, self._at(c.tau_first_frac), self._at(c.tau_last_frac)),
            "rho": linear(step, c.rho_start, c.rho_end, self._at(c.rho_first_frac), self._at(c.rho_last_frac)),
            "kl_global_weight": linear(step, 0.0, 1.0, 0, self._at(c.global_kl_frac)),
            "aux_where_weight": linear(step, c.aux_where_start, 1.0, 0, self._at(c.aux_where_frac)),
            "aux_bg_weight": linear(step, c.aux_bg_start, 1.0, 0, self._at(c.aux_bg_frac)),
        }

    def lr_scale(self, step: int) -> list[float]:
        """Constant, or half a cosine."""
        c = self.config
        return [half_cosine(step, c.steps) if c.schedule == "cosine" else 1.0]

    def _at(self, share: float) -> int:
        """The step that is ``share`` of all steps."""
        return round(share * self.config.steps)

    def _normal(self, raw: Tensor) -> Normal:
        return Normal.of(raw, self.config.std_bias, self.config.std_floor)

    def _object_kl(self, posterior: Symbols, prior: Symbols, latents: Latents, rho: float) -> dict[str, Tensor]:
        """KLs of the objects' latents (B, N, .) to the prior that z_g generates and to the auxiliary one.

        The auxiliary KLs count by presence, through which gradients flow, as published.
        """
        gate = latents.pres.clamp(min=PRESENCE_FLOOR)  # (B, N, 1)
        return {
            "kl_pres": bernoulli_kl(posterior.pres, prior.pres.sigmoid()),
            "kl_where": posterior.where.kl(prior.where),
            "kl_depth": posterior.depth.kl(prior.depth),
            "kl_what": posterior.what.kl(prior.what),
            "aux_pres": bernoulli_kl(posterior.pres, rho),
            "aux_where": gate * normal_kl(*posterior.where, self.auxiliary_mean, self.auxiliary_std),
            "aux_depth": gate * normal_kl(*posterior.depth, 0.0, 1.0),
            "aux_what": gate * normal_kl(*posterior.what, 0.0, 1.0),
        }

    def _weighted(self, kl: dict[str, Tensor], schedules: dict[str, float]) -> Tensor:
        """Sum of the named KL terms, each with its own weight."""
        weights = {name: self.config.prior_kl_weight for name in kl if name.startswith("kl_")}
        weights |= {name: schedules[f"{name}_weight"] for name in ("kl_global", "aux_where", "aux_bg")}
        return torch.stack([weights.get(name, 1.0) * value for name, value in kl.items()]).sum()

    @torch.no_grad()
    def _appearances(self, background: Tensor, colours: Tensor, boxes: Tensor) -> Tensor:
        """The background, then every cell's glimpse in its box, black around it: (B, 1 + N, 3, H, W)."""
        return torch.cat([background[:, None], paste(colours, boxes, self.image_size)], dim=1)
