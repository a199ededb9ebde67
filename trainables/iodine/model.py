"""IODINE as a whole: iterative amortised inference in a spatial mixture model (Greff et al. 2019, algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.distributions import normal_kl, sample_normal
from trainables.initial_weights import xavier
from trainables.iodine.config import Config
from trainables.iodine.likelihood import log_likelihoods, mixture_log_likelihood
from trainables.iodine.networks import Decoder, Gradients, Refinement, Scene, State
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.schedules import half_cosine, linear, warm_up

VARIANCE_FLOOR = 1e-6
"""Added to the variance, so that the KL stays finite where softplus underflows: at most 6.4 nats per latent."""


class Model(SegmentationModel):
    """IODINE for square images of 16 pixels and more.

    Noise: one ``noise.normal`` of shape (B, K, Z) per iteration, in training and in evaluation: it is all that tells
    the slots apart at the start. No slot is reserved for the background. Refinement differentiates the loss within
    ``forward``, so evaluation may run under ``torch.no_grad`` but not under ``torch.inference_mode``.
    """

    judged_at_once = 2
    """It refines by gradients in evaluation, too, and keeps the graph of a decoding for them."""

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        self.decoder = Decoder(config, image_size)
        self.refinement = Refinement(config, image_size)
        scale = torch.full((config.z_size,), config.scale_init)
        self.posterior = nn.Parameter(torch.cat([torch.zeros_like(scale), scale]))  # (2Z,): means, then scales
        xavier(0.02 if config.replicate else config.init_gain, self)

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W); the loss is a weighted sum of the negative ELBOs of all iterations.

        Their weights are t / T, or (t - 1) / (T - 1) without ``weigh_first``. The terms ``nll_t`` and ``kl_t`` (before
        ``kl_weight``) are the parts of iteration t's ELBO in nats, sums over an image, means over B.
        """
        c = self.config
        sigma = self.sigma(step)
        differentiable = torch.is_grad_enabled()
        posterior = self.posterior.expand(len(image), c.num_slots, -1)  # (B, K, 2Z)
        state: State | None = None
        loss = image.new_zeros(())
        terms: dict[str, Tensor] = {}
        for t in range(1, c.num_iters + 1):
            last = t == c.num_iters
            with torch.set_grad_enabled(differentiable or not last):
                if not differentiable:
                    posterior = posterior.detach().requires_grad_()
                mean, std = self.moments(posterior)  # (B, K, Z)
                scene = self.explain(image, sample_normal(mean, std), sigma)
                nll = -scene.log_p.flatten(1).sum(1)  # (B,)
                kl = normal_kl(mean, std, 0.0, 1.0).flatten(1).sum(1)  # (B,)
                energy = nll + c.kl_weight * kl
                # a mean would let the batch's size scale the gradients that refine each image
                objective = energy.mean() if c.replicate else energy.sum()
            weight = t / c.num_iters if c.weigh_first else (t - 1) / (c.num_iters - 1)
            loss = loss + weight * energy.mean()
            terms |= {f"nll_{t}": nll.detach().mean(), f"kl_{t}": kl.detach().mean()}
            if not last:
                wanted = (scene.colour, scene.log_masks, posterior)
                gradients = Gradients(*torch.autograd.grad(objective, wanted, retain_graph=differentiable))
                if not differentiable:
                    scene, posterior = Scene(*(x.detach() for x in scene)), posterior.detach()
                change, state = self.refinement(image, scene, gradients, posterior, state)
                posterior = posterior + change
        masks = scene.log_masks.exp()
        reconstruction = (masks * scene.colour).sum(1)  # (B, 3, H, W)
        terms["sigma"] = torch.tensor(sigma)
        return SegmentationOutput(loss, reconstruction, masks, terms, appearances=scene.colour)

    def moments(self, posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (B, K, Z), of the latents under ``posterior`` (B, K, 2Z)."""
        mean, scale = posterior.chunk(2, dim=-1)
        variance = F.softplus(scale)
        return mean, (variance if self.config.replicate else variance + VARIANCE_FLOOR).sqrt()

    def explain(self, image: Tensor, z: Tensor, sigma: float) -> Scene:
        """What latents ``z`` (B, K, Z) show, and how well it explains ``image`` (B, 3, H, W)."""
        colour, logits = self.decoder(z)
        log_masks = logits.log_softmax(1)
        likelihoods = log_likelihoods(image, colour, sigma, self.config.mixture)
        return Scene(colour, logits, log_masks, likelihoods, mixture_log_likelihood(log_masks, likelihoods))

    def sigma(self, step: int) -> float:
        """Standard deviation of a pixel at training step ``step``."""
        c = self.config
        start = c.sigma if c.sigma_start is None else c.sigma_start
        return linear(step, start, c.sigma, 0, c.sigma_warmup_frac * c.steps)

    def lr_scale(self, step: int) -> list[float]:
        """Linear warm-up times decay."""
        c = self.config
        rise = warm_up(step, c.warmup_frac * c.steps)
        done = min(1.0, step / c.steps)
        decay = {"constant": 1.0, "exp": 0.1**done, "cosine": half_cosine(step, c.steps)}
        return [rise * decay[c.schedule]]
