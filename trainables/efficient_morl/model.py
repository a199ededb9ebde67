"""EfficientMORL as a whole: two stages of inference, the loss of every decoded posterior, and GECO."""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.distributions import mixture_log_density, normal_kl, normal_log_density, sample_normal
from trainables.efficient_morl.blocks import Normal, normal
from trainables.efficient_morl.config import Config
from trainables.efficient_morl.decoder import Decoder, KnownGradient
from trainables.efficient_morl.inference import Encoder, Posterior, Prior, Refiner
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import warm_up

GECO_MEMORY = 0.99
"""Weight of the past in GECO's moving average."""

GECO_RANGE = (0.55, 10.0)
"""Bounds of GECO's raw multiplier; its softplus, the weight of the reconstruction, lies between 1.006 and 10."""

PUBLISHED_VALUES = 3 * 128**2
"""Values of an image of the size that ``geco_eta`` refers to."""


@dataclass(frozen=True)
class Decoded:
    """A decoded posterior, without a gradient."""

    reconstruction: Tensor
    """(B, 3, H, W), the slots' colours blended by their masks."""
    masks: Tensor
    """(B, K, 1, H, W)."""
    colour: Tensor
    """(B, K, 3, H, W)."""


class Model(SegmentationModel):
    """EfficientMORL for square images; the background is in no particular slot.

    Latents are sampled in training and evaluation alike. All noise is normal, (B, K, D) at a time, in this order: the
    L queries from the first to the last, the sample that is decoded, those of the prior from the top layer down, and
    one per refinement.
    """

    geco_average: Tensor
    geco_raw: Tensor

    judged_at_once = 2
    """It refines by gradients in evaluation, too, and keeps the graph of a decoding for them."""

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        if config.I_end > config.I_start:
            raise ValueError(f"hyperparameter I_end is {config.I_end}; it must be at most I_start, {config.I_start}")
        if config.I_eval and not config.I_start:
            raise ValueError(f"hyperparameter I_eval is {config.I_eval}; it must be 0 where I_start is 0: no refiner")
        if config.decoder == "deconv" and image_size % 2**config.dec_layers:
            raise ValueError(
                f"hyperparameter dec_layers is {config.dec_layers}; it must be lower, since deconv halves {image_size} "
                "pixels as often"
            )
        self.encoder = Encoder(config, image_size)
        self.posterior = Posterior(config)
        self.prior = Prior(config) if config.L > 1 else None
        self.decoder = Decoder(config, image_size)
        self.refiner = Refiner(config) if config.I_start else None
        self.register_buffer("geco_average", torch.zeros(()))
        self.register_buffer("geco_raw", torch.tensor(GECO_RANGE[0]))

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W) as of training step ``step``; what is shown is the last refinement's.

        The terms ``nll`` and ``kl`` (before ``kl_weight``) are those of the last refinement in nats, ``nll_0`` and
        ``kl_0`` those before the first. Under ``torch.no_grad()`` (not ``inference_mode``) the gradients that
        refinement reads are computed all the same.
        """
        c = self.config
        learning = torch.is_grad_enabled()
        refinements = self.refinements(step)
        features = self.encoder(image)  # (B, N, C)
        full = torch.autocast(image.device.type, enabled=False)
        with full:
            *below, raw = self.posterior(features.float(), c.num_slots)  # (B, K, 2D) each
        loss = torch.zeros((), device=image.device)
        hidden = None
        for i, weight in enumerate(loss_weights(refinements)):
            last = i == refinements
            if not learning:
                raw = raw.detach().requires_grad_(not last)
            with torch.set_grad_enabled(learning or not last):
                z = sample_normal(*normal(raw))  # (B, K, D)
                nll, decoded = self.decode(image, z, learning)
                with full:
                    if i == 0:
                        kl, prior = self.hierarchical_kl([*below, raw])
                        nll_0, kl_0 = nll, kl
                    else:
                        kl = mean_kl(normal(raw), prior)
                    part = self.objective(nll, kl, step)
                    if not last:
                        assert self.refiner is not None
                        (gradient,) = torch.autograd.grad(part, raw, retain_graph=learning)
                        gradient = gradient if c.replicate else gradient * len(image)
                        raw, hidden = self.refiner(raw, gradient, hidden)
            loss = loss + weight * part
        terms = {"nll": nll, "kl": kl, "nll_0": nll_0, "kl_0": kl_0}
        terms = {name: term.detach() for name, term in terms.items()}
        terms["refinements"] = torch.tensor(float(refinements))
        if c.use_geco:
            terms |= {"geco_weight": F.softplus(self.geco_raw), "geco_average": self.geco_average.clone()}
        return SegmentationOutput(loss, decoded.reconstruction, decoded.masks, terms, appearances=decoded.colour)

    def decode(self, image: Tensor, z: Tensor, learning: bool) -> tuple[Tensor, Decoded]:
        """Mean negative log-likelihood (scalar) of ``image`` (B, 3, H, W) given ``z`` (B, K, D), and what was decoded.

        Refinement and training both need the gradient of the same scalar, up to a factor. It is computed once, here,
        and the decoder's activations, the largest part of the memory, are freed before the next refinement.
        """
        if not torch.is_grad_enabled():
            return self.nll(image, z)
        latents = z.detach().requires_grad_()
        weights = [weight for weight in self.decoder.parameters() if learning and weight.requires_grad]
        nll, decoded = self.nll(image, latents)
        gradients = torch.autograd.grad(nll, [latents, *weights])
        return KnownGradient.apply(nll.detach(), gradients, z, *weights), decoded

    def nll(self, image: Tensor, z: Tensor) -> tuple[Tensor, Decoded]:
        """As :meth:`decode`, by plain arithmetic. The published density lacks the factor (2 pi)^(-1/2) per value."""
        colour, log_masks = self.decoder(z)  # (B, K, 3, H, W), (B, K, 1, H, W)
        with torch.autocast(image.device.type, enabled=False):
            masks = log_masks.exp()
            blend = (masks * colour).sum(1)  # (B, 3, H, W)
            if self.config.likelihood == "gmm":
                log_density = mixture_log_density(image, log_masks, colour, self.config.sigma)
            else:
                log_density = normal_log_density(image, blend, self.config.sigma)
            nll = -(log_density + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1).mean()
        return nll, Decoded(blend.detach(), masks.detach(), colour.detach())

    def hierarchical_kl(self, posteriors: list[Tensor]) -> tuple[Tensor, Normal]:
        """Mean KL (scalar) of all layers' ``posteriors`` (B, K, 2D), given from the bottom up, and the last prior.

        The generative chain runs the other way: the layer inferred last comes first and has prior N(0, 1), and a
        fresh sample of each layer gives the prior of the layer below (Emami et al. 2021, section 3.2). Refinement uses
        the prior of the lowest layer, too.
        """
        top = normal(posteriors[-1])
        prior = torch.zeros_like(top[0]), torch.ones_like(top[1])
        kl = mean_kl(top, prior)
        for upper, lower in itertools.pairwise(reversed(posteriors)):
            assert self.prior is not None
            prior = normal(self.prior(sample_normal(*normal(upper))))
            kl = kl + mean_kl(normal(lower), prior)
        return kl, prior

    def objective(self, nll: Tensor, kl: Tensor, step: int) -> Tensor:
        """Loss of one decoded posterior (scalar).

        Under GECO its gradient is that of the KL plus the reconstruction's weight times that of ``nll``; the moving
        average changes only its value.
        """
        kl = self.config.kl_weight * kl
        if not self.config.use_geco or step < self.geco_start:
            return nll + kl
        miss = self.geco_target - nll
        return kl - F.softplus(self.geco_raw) * (miss + (self.geco_average - miss).detach())

    def after_step(self, step: int, output: SegmentationOutput) -> None:
        """Move GECO's average towards the last refinement's miss, and its multiplier against the average."""
        c = self.config
        if not c.use_geco or step < self.geco_start:
            return
        miss = self.geco_target - output.terms["nll"]
        if step == self.geco_start:
            self.geco_average.copy_(miss)
            return
        self.geco_average.lerp_(miss, 1 - GECO_MEMORY)
        eta = c.geco_eta * PUBLISHED_VALUES / self.values
        floor, ceiling = GECO_RANGE
        self.geco_raw.sub_(eta * self.geco_average).clamp_(floor, None if c.replicate else ceiling)

    @property
    def values(self) -> int:
        """Values per image, 3HW."""
        return 3 * self.image_size**2

    @property
    def geco_start(self) -> int:
        """The first step of GECO."""
        return round(self.config.geco_warmup_frac * self.config.steps)

    @property
    def geco_target(self) -> float:
        """Negative log-likelihood in nats per image at a squared error of ``geco_target_mse``."""
        c = self.config
        return self.values * (math.log(c.sigma) + c.geco_target_mse / (2 * c.sigma**2))

    def refinements(self, step: int) -> int:
        """I at training step ``step``, or in evaluation."""
        c = self.config
        if not self.training and c.I_eval is not None:
            return c.I_eval
        return c.I_start if step < c.curriculum_frac * c.steps else c.I_end

    def lr_scale(self, step: int) -> list[float]:
        """Linear warm-up times decay; both begin at step 0."""
        c = self.config
        rise = warm_up(step, c.warmup_frac * c.steps, from_zero=c.replicate)
        return [rise * 0.5 ** (step / (c.half_life_frac * c.steps))]


def loss_weights(refinements: int) -> list[float]:
    """Weights of the losses before and after each refinement; the early ones count most (published code)."""
    return [(refinements + 3 - i) / (refinements + 1) for i in range(refinements + 1)]


def mean_kl(posterior: Normal, prior: Normal) -> Tensor:
    """KL (scalar) of ``posterior`` from ``prior``, summed over slots and dimensions, mean over the batch."""
    return normal_kl(*posterior, *prior).flatten(1).sum(1).mean()
