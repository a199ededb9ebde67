"""GNM's objects: boxes, pasting, depth, compositing and masks, on latents made by hand."""

import pytest
import torch

from trainables.gnm import Config
from trainables.gnm.objects import (
    ObjectHead,
    clamp_straight_through,
    place,
    render,
)
from trainables.spatial_transformer import paste, segment

SIZE = 32


def scene(N, **changes):
    """Arguments of ``render`` for N opaque white glimpses that fill the image, before a white background."""
    glimpse = torch.ones(1, N, 3, SIZE, SIZE)
    arguments = dict(
        colours=glimpse,
        alphas=glimpse[:, :, :1],
        pres=torch.ones(1, N, 1),
        depth=torch.zeros(1, N, 1),
        boxes=torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, N, 4),
        background=torch.ones(1, 3, SIZE, SIZE),
    )
    return render(**{**arguments, **changes})


def random_scene(N=16, B=2, **changes):
    torch.manual_seed(0)
    return render(
        torch.rand(B, N, 3, 8, 8),
        torch.rand(B, N, 1, 8, 8),
        torch.rand(B, N, 1),
        5 * torch.randn(B, N, 1),
        place(2 * torch.randn(B, N, 4)),
        torch.rand(B, 3, SIZE, SIZE),
        **changes,
    )


def test_the_image_stays_in_range():
    image = random_scene().image
    assert image.min() >= 0 and image.max() <= 1 + 1e-6


def test_overlaps_alone_darken_white_objects_before_white():
    """Weights times alphas, and what alpha leaves to the background, sum to 1 unless objects overlap."""
    alphas = torch.rand(1, 2, 1, SIZE, SIZE)
    assert scene(2, alphas=alphas).image.max() <= 1 + 1e-5
    torch.testing.assert_close(scene(1, alphas=alphas[:, :1]).image, torch.ones(1, 3, SIZE, SIZE))
    apart = torch.tensor([[[0.4, 0.4, -0.5, 0.0], [0.4, 0.4, 0.5, 0.0]]])
    torch.testing.assert_close(scene(2, alphas=alphas, boxes=apart).image, torch.ones(1, 3, SIZE, SIZE))
    halves = torch.full_like(alphas, 0.5)
    # dark halos in overlaps: 0.5 of white although alpha is 1; the weights sum to 1 whatever the depths
    for depth in (0.0, 3.0):
        image = scene(2, alphas=halves, depth=torch.tensor([[[0.0], [depth]]])).image
        torch.testing.assert_close(image, torch.full_like(image, 0.5))


def test_absent_objects_leave_the_background():
    background = torch.rand(1, 3, SIZE, SIZE)
    absent = scene(4, pres=torch.zeros(1, 4, 1), background=background)
    assert torch.equal(absent.image, background)
    masks = segment(absent.alphas)
    assert torch.equal(masks[:, 0], torch.ones(1, 1, SIZE, SIZE)) and not masks[:, 1:].any()


def test_absent_objects_have_finite_gradients():
    pres = torch.zeros(1, 4, 1, requires_grad=True)
    depth = torch.full((1, 4, 1), 200.0, requires_grad=True)
    alphas = torch.full((1, 4, 1, SIZE, SIZE), 1e-30, requires_grad=True)
    (100 * scene(4, pres=pres, depth=depth, alphas=alphas).image).sum().backward()
    assert all(x.grad.isfinite().all() for x in (pres, depth, alphas))


def test_masks_keep_the_benchmarks_argmax():
    torch.manual_seed(0)
    alphas = torch.rand(3, 6, 1, 16, 16) ** 3
    masks = segment(alphas)
    torch.testing.assert_close(masks.sum(1), torch.ones(3, 1, 16, 16), rtol=0, atol=1e-5)
    assert masks.min() >= 0 and masks.max() <= 1
    benchmark = torch.cat([1 - alphas.sum(1, keepdim=True), alphas], dim=1)
    assert (benchmark < 0).any()
    assert torch.equal(masks.argmax(1), benchmark.argmax(1))


def test_pasting_is_the_spatial_transformer():
    torch.manual_seed(0)
    glimpse = torch.rand(1, 1, 4, SIZE, SIZE)
    whole = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    torch.testing.assert_close(paste(glimpse, whole, SIZE), glimpse, rtol=0, atol=1e-6)
    half = paste(torch.ones_like(glimpse), torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]), SIZE)[0, 0, 0]
    assert (half[8:24, 8:24] > 0.7).all()  # its very edge fades
    assert (half[9:23, 9:23] == 1).all()
    half[8:24, 8:24] = 0
    assert not half.any()

    where = place(torch.randn(2, 16, 4))
    glimpses = torch.rand(2, 16, 4, 16, 16)
    (sx, sy), (tx, ty) = where[..., :2].flatten(0, 1).unbind(-1), where[..., 2:].flatten(0, 1).unbind(-1)
    zero = torch.zeros_like(sx)
    theta = torch.stack([1 / sx, zero, -tx / sx, zero, 1 / sy, -ty / sy], dim=-1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [32, 4, SIZE, SIZE], align_corners=False)
    reference = torch.nn.functional.grid_sample(glimpses.flatten(0, 1), grid, align_corners=False)
    torch.testing.assert_close(paste(glimpses, where, SIZE).flatten(0, 1), reference, rtol=0, atol=1e-4)


def test_cells_are_numbered_row_by_row():
    boxes = place(torch.zeros(1, 16, 4))
    assert boxes[0, 1].tolist() == [0.5, 0.5, -0.25, -0.75]
    assert boxes[0, 4].tolist() == [0.5, 0.5, -0.75, -0.25]
    shifted = torch.zeros(1, 16, 4)
    shifted[..., 2:] = 100.0
    torch.testing.assert_close(place(shifted)[..., 2:] - boxes[..., 2:], torch.full((1, 16, 2), 0.5))


def test_sides_follow_size_and_ratio():
    where = torch.zeros(1, 16, 4)
    where[..., 0], where[..., 1] = -1.5, 0.7
    width, height = place(where, None)[0, 3, :2]
    size = torch.tensor(-1.5).sigmoid()
    torch.testing.assert_close(width * height, size**2)
    torch.testing.assert_close(height / width, torch.tensor(0.7).exp())
    where[..., 0] = -50.0
    assert place(where)[..., :2].min() == pytest.approx(1e-3)
    assert place(where, None)[..., :2].max() < 1e-15


def test_the_nearer_object_wins():
    colours = torch.stack([torch.ones(3, SIZE, SIZE), torch.zeros(3, SIZE, SIZE)])[None]
    depth = torch.tensor([[[-3.0], [3.0]]])
    front, behind = (scene(2, colours=colours, depth=d).image for d in (depth, -depth))
    assert (front > 0.9).all() and (behind < 0.1).all()


def test_alpha_is_clamped_without_losing_its_gradient():
    alphas = torch.tensor([0.7, 0.8], requires_grad=True)
    alpha = clamp_straight_through(alphas.sum())
    alpha.backward()
    assert alpha == 1 and alphas.grad.tolist() == [1, 1]
    low = torch.zeros(1, requires_grad=True)
    clamp_straight_through(low).backward()
    assert low.grad == 1


def test_fixed_alpha_lets_a_tenth_of_the_background_through():
    """Whatever the objects' own alphas are."""
    torch.manual_seed(0)
    background = torch.rand(1, 3, SIZE, SIZE)
    for alpha in (0.01, 1.0):
        glimpses = torch.full((1, 1, 1, SIZE, SIZE), alpha)
        fixed = scene(1, alphas=glimpses, background=background, fixed_alpha=0.9).image
        torch.testing.assert_close(fixed, 0.99 * alpha + 0.1 * background)


def test_fixed_alpha_caps_presence():
    opaque = scene(1, fixed_alpha=0.9)
    assert opaque.alphas.max() == pytest.approx(0.99)
    assert scene(1).alphas.max() == 1


def test_presence_is_never_certain():
    torch.manual_seed(0)
    head = ObjectHead(Config(feature_dim=8, z_what_dim=2))
    with torch.no_grad():
        head.pres.weight.mul_(1e6)
        presence = head(torch.randn(4, 8, 4, 4)).pres.sigmoid()
    assert presence.min() == pytest.approx(1.51e-4, rel=1e-2)
    assert presence.max() == pytest.approx(0.99985, abs=1e-5)
