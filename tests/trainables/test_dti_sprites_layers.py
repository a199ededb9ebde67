"""The pieces of DTI-Sprites that need no model: transformations, layers and the search, against their definitions."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from trainables.dti_sprites.layering import covering, search, segment, weigh
from trainables.dti_sprites.model import scattered
from trainables.dti_sprites.transformations import bend, place, recolour, soft_clamp
from trainables.spatial_transformer import paste, pixel_boxes


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def draw(sprite: Tensor, position: list[float], size: int) -> Tensor:
    """``sprite`` (C, h, h) on a canvas of ``size`` pixels, (C, size, size)."""
    return paste(sprite[None, None], place(torch.tensor([[position]])), size)[0, 0]


def test_soft_clamp() -> None:
    x = torch.tensor([-0.5, 0.25, 1.5], requires_grad=True)
    y = soft_clamp(x)
    torch.testing.assert_close(y, torch.tensor([-0.005, 0.25, 1.005]))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.01, 1.0, 0.01]))


def test_recolouring() -> None:
    rgb = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(recolour(rgb, torch.zeros(2, 6)), rgb)
    constant = torch.tensor([-1, 0.3]).repeat(3).expand(2, 6)
    torch.testing.assert_close(recolour(rgb, constant), torch.full_like(rgb, 0.3))
    # per channel: scale, then shift; no mixing
    colour = torch.tensor([0.0, 0.1, -0.5, 0.0, -1.0, 0.7])
    expected = torch.stack([rgb[0, 0] * 0.8 + 0.1, rgb[0, 1] * 0.5, torch.full((5, 5), 0.7)])
    torch.testing.assert_close(recolour(rgb[0] * torch.tensor([0.8, 1, 1])[:, None, None], colour), expected)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_a_homography_of_zeros_is_the_identity(padding: str) -> None:
    texture = torch.rand(2, 3, 4, 40, 40)
    torch.testing.assert_close(bend(texture, torch.zeros(2, 3, 9), padding=padding), texture, rtol=0, atol=1e-5)


def test_the_published_homography_shrinks() -> None:
    bent = bend(torch.ones(1, 1, 40, 40), torch.zeros(1, 9), replicate=True)
    assert float(bent[0, 0, 0, 0]) == pytest.approx(0.25, abs=1e-4)
    assert float(bent.sum()) == pytest.approx(1521, abs=0.5)


def test_homographies_are_read_row_by_row() -> None:
    texture = torch.rand(1, 1, 8, 8)
    right, down, swap = torch.zeros(3, 1, 9)
    right[0, 2], down[0, 5] = 0.25, 0.25  # reads one pixel of eight to the right, or below: 2 / 8
    torch.testing.assert_close(bend(texture, right)[..., :-1], texture[..., 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(bend(texture, down)[..., :-1, :], texture[..., 1:, :], rtol=0, atol=1e-5)
    swap[0, [0, 1, 3, 4]] = torch.tensor([-1.0, 1.0, 1.0, -1.0])
    torch.testing.assert_close(bend(texture, swap), texture.mT, rtol=0, atol=1e-5)
    closer = torch.zeros(1, 9)
    closer[0, 8] = 1.0  # a denominator of 2 reads the middle half
    flat = torch.zeros(1, 9)
    flat[0, [0, 4]] = -0.5
    torch.testing.assert_close(bend(texture, closer), bend(texture, flat), rtol=0, atol=1e-5)


def test_a_homography_that_blows_up_stays_finite() -> None:
    texture = torch.rand(6, 1, 8, 8, requires_grad=True)
    homography = (100 * torch.randn(6, 9)).requires_grad_()
    bend(texture, homography).sum().backward()
    assert texture.grad is not None and texture.grad.isfinite().all()
    assert homography.grad is not None and homography.grad.isfinite().all()


def test_positions() -> None:
    sprite = torch.rand(2, 40, 40)
    torch.testing.assert_close(draw(sprite, [-40, 0, 0], 40), sprite, rtol=0, atol=1e-5)
    start = draw(torch.ones(1, 40, 40), [0, 0, 0], 128)
    assert float(start.sum()) == pytest.approx(4096, abs=0.5)
    for axis in (1, 2):
        torch.testing.assert_close(start, start.flip(axis), rtol=0, atol=1e-5)
    assert (start[0, 33:95, 33:95] == 1).all()
    assert not start[0, :31].any() and not start[0, 97:].any()


def test_a_larger_t_x_moves_the_sprite_left() -> None:
    def centre(position: list[float]) -> tuple[float, float]:
        canvas = draw(torch.ones(1, 40, 40), position, 128)[0]
        line = torch.arange(128.0)
        return float((canvas.sum(0) * line).sum() / canvas.sum()), float((canvas.sum(1) * line).sum() / canvas.sum())

    x, y = centre([0, 0, 0])
    left, same = centre([0, 0.5, 0])
    assert left - x == pytest.approx(-16, abs=1e-2) and same == pytest.approx(y, abs=1e-3)
    assert centre([0, 0, -0.5])[1] - y == pytest.approx(16, abs=1e-2)
    box = pixel_boxes(place(torch.tensor([[0, 0.5, 0]])), 128)
    torch.testing.assert_close(box, torch.tensor([[16.0, 32.0, 80.0, 96.0]]))


def test_scattered_layers_cover_the_square() -> None:
    assert not scattered(10, 0.0, 0.5).any()
    boxes = place(scattered(9, 0.7, 0.3))  # (9, 4)
    torch.testing.assert_close(boxes[:, :2], torch.full((9, 2), 0.3))
    assert float(boxes[:, 2:].abs().max()) < 0.7
    assert float(torch.pdist(boxes[:, 2:]).min()) > 0.35
    quadrants = {tuple(centre) for centre in boxes[:, 2:].sign().tolist()}
    assert {(-1, -1), (-1, 1), (1, -1), (1, 1)} <= quadrants


def full_order(over: Tensor) -> Tensor:
    """O (B, L + 1, L + 1) of the paper: row i lies in front of column j, the background first."""
    return torch.cat([torch.zeros_like(over[:, :1]), over], dim=1)


def naive_weights(alphas: Tensor, over: Tensor) -> Tensor:
    """W_i = a_i times the product over j of 1 - O[j, i] a_j, a pair at a time."""
    order = full_order(over)[..., None, None, None]
    alphas = torch.cat([torch.ones_like(alphas[:, :1]), alphas], dim=1)
    weights = alphas.clone()
    for i, j in itertools.permutations(range(alphas.shape[1]), 2):
        weights[:, i] *= 1 - order[:, j, i] * alphas[:, j]
    return weights


def test_which_layer_covers_which() -> None:
    logits = torch.randn(2, 6)
    over = covering(logits, 4)
    assert over.shape == (2, 4, 5) and (over[..., 0] == 1).all()
    both = over[..., 1:] + over[..., 1:].mT
    torch.testing.assert_close(both, (1 - torch.eye(4)).expand(2, 4, 4))
    p = logits.sigmoid()
    pairs = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    for n, (i, j) in enumerate(pairs):
        torch.testing.assert_close(over[:, i, 1 + j], p[:, n])
    assert (covering(torch.zeros(1, 3), 3)[..., 1:].triu(1) <= 0.5).all()


def test_known_weights() -> None:
    opaque = torch.ones(1, 3, 1, 1, 1)
    undecided = covering(torch.zeros(1, 3), 3)
    torch.testing.assert_close(weigh(opaque, undecided).flatten(), torch.tensor([0, 0.25, 0.25, 0.25]))
    cycle = covering(torch.tensor([[1e9, -1e9, 1e9]]), 3)  # 1 over 0, 0 over 2, 2 over 1
    assert not weigh(opaque, cycle).any()
    alphas = torch.rand(5, 2, 1, 4, 4)
    total = weigh(alphas, covering(torch.randn(5, 1), 2)).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_weights_of_any_layers() -> None:
    alphas, over = torch.rand(3, 5, 1, 4, 4), covering(2 * torch.randn(3, 10), 5)
    weights = weigh(alphas, over)
    torch.testing.assert_close(weights, naive_weights(alphas, over))
    assert float(weights.min()) >= 0 and float(weights.sum(1).max()) <= 1 + 1e-6


def test_a_hard_order_paints_back_to_front() -> None:
    rank = torch.tensor([3, 0, 4, 1, 2])  # 0 = the rearmost
    logits = torch.stack([1e9 * (rank[i] - rank[j]) for i, j in torch.tril_indices(5, 5, -1).T])[None].float()
    alphas, colours = torch.rand(1, 5, 1, 4, 4), torch.rand(1, 6, 3, 4, 4)
    weights = weigh(alphas, covering(logits, 5))
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 1, 4, 4))
    painted = colours[:, 0]
    for layer in rank.argsort():
        painted = torch.lerp(painted, colours[:, 1 + layer], alphas[:, layer])
    torch.testing.assert_close((weights * colours).sum(1), painted)


def test_masks_keep_the_benchmarks_argmax() -> None:
    alphas, over = torch.rand(4, 6, 1, 16, 16), covering(torch.randn(4, 15), 6)
    masks = segment(alphas, over)
    torch.testing.assert_close(masks.sum(1), torch.ones(4, 1, 16, 16))
    weights = naive_weights(alphas, over)
    assert float(weights.sum(1).min()) < 0.9
    assert torch.equal(masks.argmax(1), weights.argmax(1))
    beyond = soft_clamp(2 * torch.rand(64, 6, 1, 32, 32) - 0.3)  # as trained masks are: a little outside of [0, 1]
    over = covering(3 * torch.randn(64, 15), 6)
    masks = segment(beyond, over)
    torch.testing.assert_close(masks.sum(1), torch.ones(64, 1, 32, 32))
    assert float(masks.min()) >= 0
    assert torch.equal(masks.argmax(1), weigh(beyond, over).argmax(1))
    lost = segment(torch.ones(1, 3, 1, 2, 2), covering(torch.tensor([[1e9, -1e9, 1e9]]), 3))
    assert (lost[:, 0] == 1).all() and not lost[:, 1:].any()


class Scene:
    """Random candidates, and the mean squared error of any choice, composed from scratch."""

    def __init__(self, B: int, L: int, K: int):
        self.image, self.ground = torch.rand(2, B, 3, 6, 6)
        self.colours, self.alphas = torch.rand(B, L, K, 3, 6, 6), torch.rand(B, L, K, 1, 6, 6)
        self.over = covering(2 * torch.randn(B, L * (L - 1) // 2), L)
        self.empty = K
        # the more an image shows of its candidates, the more layers are worth their cost
        self.image = 0.5 * self.image + 0.5 * self.colours[:, 0, 0]

    def search(self, sweeps: int, cost: float | None) -> Tensor:
        return search(self.image, self.ground, self.colours, self.alphas, self.over, sweeps, cost)

    def error(self, picks: Tensor, cost: float | None) -> Tensor:
        """(B,) of ``picks`` (B, L)."""
        shown = (picks < self.empty)[:, :, None, None, None]
        index = picks.clamp(max=self.empty - 1)
        rows, layers = torch.arange(len(picks))[:, None], torch.arange(picks.shape[1])
        colours = torch.cat([self.ground[:, None], shown * self.colours[rows, layers, index]], dim=1)
        weights = naive_weights(shown * self.alphas[rows, layers, index], self.over)
        return (self.image - (weights * colours).sum(1)).square().mean((1, 2, 3)) + (cost or 0) * shown.float().sum(
            (1, 2, 3, 4)
        )

    def greedy(self, sweeps: int, cost: float | None) -> tuple[Tensor, list[Tensor]]:
        """Picks (B, L) by recomposing everything for every trial, and the errors (B,) after each visit of a layer."""
        B, L = self.colours.shape[:2]
        picks, errors = torch.full((B, L), self.empty), []
        for _, layer in itertools.product(range(sweeps), range(L)):
            trials = []
            for candidate in range(self.empty + (cost is not None)):
                trial = picks.clone()
                trial[:, layer] = candidate
                trials.append(self.error(trial, cost))
            error, picks[:, layer] = torch.stack(trials).min(0)
            errors.append(error)
        return picks, errors


@pytest.mark.parametrize("cost", [None, 0.0, 0.01])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_the_closed_form_picks_what_recomposition_picks(sweeps: int, cost: float | None) -> None:
    scene = Scene(8, 4, 3)
    picks = scene.search(sweeps, cost)
    assert torch.equal(picks, scene.greedy(sweeps, cost)[0])
    assert len(picks.unique()) == (3 if cost is None else 4)


def test_one_layer_is_searched_exhaustively() -> None:
    scene = Scene(16, 1, 5)
    every = torch.stack([scene.error(torch.full((16, 1), k), 0.01) for k in range(6)])
    assert torch.equal(scene.search(3, 0.01)[:, 0], every.argmin(0))


def test_no_step_of_the_search_raises_the_error() -> None:
    scene = Scene(8, 2, 2)
    picks, errors = scene.greedy(3, 0.01)
    assert all((after <= before + 1e-7).all() for before, after in itertools.pairwise(errors))
    assert torch.equal(scene.search(3, 0.01), picks)
    assert (errors[-1] <= scene.error(torch.full((8, 2), scene.empty), 0.01)).all()


def test_further_sweeps_can_change_a_pick() -> None:
    scene = Scene(64, 4, 3)
    assert not torch.equal(scene.search(1, 0.0), scene.search(3, 0.0))


def test_equal_candidates_go_to_the_first() -> None:
    scene = Scene(4, 3, 5)
    scene.colours[:], scene.alphas[:] = scene.colours[:, :, :1], scene.alphas[:, :, :1]
    assert not scene.search(3, None).any()


def test_an_empty_layer_must_be_worth_less_than_the_cost() -> None:
    scene = Scene(4, 3, 5)
    assert (scene.search(3, math.inf) == scene.empty).all()
    assert (scene.search(3, None) < scene.empty).all()
