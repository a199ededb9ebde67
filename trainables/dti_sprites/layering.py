"""How layers cover each other, and the search for the sprite that each layer shows.

Axes: B batch, L layers, K candidates, H W pixels. Segments are the background, then the layers: L + 1. ``over``
(B, L, L + 1) says how surely a layer lies in front of a segment.
"""

import torch
from torch import Tensor


def covering(logits: Tensor, layers: int) -> Tensor:
    """``over`` (B, L, L + 1) from logits (B, L (L - 1) / 2) of the pairs (1, 0), (2, 0), (2, 1), (3, 0) ...

    Of each pair, the logit says how surely the first lies in front. All layers lie in front of the background.
    """
    over = logits.new_zeros(len(logits), layers, layers)
    i, j = torch.tril_indices(layers, layers, -1, device=logits.device)
    over[:, i, j], over[:, j, i] = logits.sigmoid(), (-logits).sigmoid()
    return torch.cat([torch.ones_like(over[..., :1]), over], dim=-1)


def weigh(alphas: Tensor, over: Tensor) -> Tensor:
    """How much of each segment is seen, (B, L + 1, 1, H, W), through the layers' ``alphas`` (B, L, 1, H, W).

    Each segment is seen through the layers in front of it (Monnier et al. 2021). For alphas in [0, 1] the sum over
    segments may fall below 1, where three or more layers overlap without a clear order.
    """
    seen = torch.cat([torch.ones_like(alphas[:, :1]), alphas], dim=1)
    for layer in range(alphas.shape[1]):
        seen = seen * passing(alphas[:, layer], over[:, layer])
    return seen


def passing(alpha: Tensor, over: Tensor) -> Tensor:
    """What a layer of ``alpha`` (B, 1, H, W), ``over`` (B, L + 1) segments, leaves of each: (B, L + 1, 1, H, W)."""
    return 1 - over[:, :, None, None, None] * alpha[:, None]


def segment(alphas: Tensor, over: Tensor) -> Tensor:
    """Masks (B, L + 1, 1, H, W), background first, that sum to 1 and have the argmax of the weights.

    Soft clamps let alphas leave [0, 1] a little, and weights with them. To clamp the alphas instead would move the
    argmax of some pixels. Where no weight is above zero, the largest gets all: the background, if they are all zero.
    """
    weights = weigh(alphas, over)
    shares = weights.relu()
    total = shares.sum(1, keepdim=True)
    largest = torch.zeros_like(weights).scatter_(1, weights.argmax(1, keepdim=True), 1.0)
    return torch.where(total > 0, shares / total.clamp(min=torch.finfo(total.dtype).tiny), largest)


@torch.no_grad()
def search(
    image: Tensor, ground: Tensor, colours: Tensor, alphas: Tensor, over: Tensor, sweeps: int, cost: float | None
) -> Tensor:
    """The candidates (B, L) in 0..K that layers show so that the error is small; K means an empty layer.

    From empty layers, one layer after another takes the candidate that leaves the smallest mean squared error,
    ``sweeps`` times; the first among equals. A layer that is not empty pays ``cost``; at None none may be empty.
    ``image`` and ``ground`` are (B, 3, H, W), ``colours`` (B, L, K, 3, H, W), ``alphas`` (B, L, K, 1, H, W).

    With the other layers held, the image is linear in the alpha a and the premultiplied colour of candidate k in layer
    l: others + seen * a * colour - a * covered. So no candidate needs a composition of its own.
    """
    B, L, K, _, H, W = colours.shape
    colours = alphas * colours
    batch = torch.arange(B, device=image.device)
    picks = torch.full((B, L), K, device=image.device)
    front = torch.cat([ground[:, None], torch.zeros_like(colours[:, :, 0])], dim=1)  # (B, L + 1, 3, H, W), lit by alpha
    alpha = torch.zeros_like(alphas[:, :, 0])  # (B, L, 1, H, W)
    clear = alphas.new_ones(B, L + 1, 1, H, W)
    for _ in range(sweeps):
        before = picks.clone()
        later = [clear]  # what the layers after one leave of each segment, for the last layer first
        for layer in range(L - 1, 0, -1):
            later.append(later[-1] * passing(alpha[:, layer], over[:, layer]))
        earlier = clear
        for layer in range(L):
            seen = earlier * later.pop()
            front[:, layer + 1] = 0
            lit = (seen * front).flatten(2)  # (B, L + 1, 3HW)
            shares = torch.stack([torch.ones_like(over[:, layer]), over[:, layer]], dim=1)  # (B, 2, L + 1)
            others, covered = (shares @ lit).view(B, 2, 3, H, W).unbind(1)  # (B, 3, H, W)
            residual = others - image
            error = torch.addcmul(residual[:, None], seen[:, layer + 1, None], colours[:, layer])  # (B, K, 3, H, W)
            error.addcmul_(alphas[:, layer], covered[:, None], value=-1)
            costs = error.square_().mean((2, 3, 4))  # (B, K)
            if cost is not None:
                costs = torch.cat([costs + cost, residual.square().mean((1, 2, 3))[:, None]], dim=1)
            picks[:, layer] = pick = costs.argmin(1)
            candidate, shown = pick.clamp(max=K - 1), (pick < K)[:, None, None, None]
            front[:, layer + 1] = shown * colours[batch, layer, candidate]
            alpha[:, layer] = shown * alphas[batch, layer, candidate]
            earlier = earlier * passing(alpha[:, layer], over[:, layer])
        # A sweep that changes nothing is the last that could. A GPU sweeps on: to know, the host would have to wait.
        if picks.device.type == "cpu" and torch.equal(picks, before):
            break
    return picks
