"""MarioNette's canvas: tiles cut, shifted, painted and stacked, against pictures worked out by hand."""

import pytest
import torch
import torch.nn.functional as F

from trainables.marionette import canvas

B, N, G, p = 2, 2, 4, 8
S, P = G * p, 2 * p


def opaque(*shape):
    """RGBA tiles (*shape, 4, P, P) of random colours and alpha 1."""
    tiles = torch.rand(*shape, 4, P, P)
    tiles[..., 3, :, :] = 1
    return tiles


def test_no_shift_changes_nothing():
    tiles = torch.rand(3, 4, P, P)
    torch.testing.assert_close(canvas.shift(tiles, torch.zeros(3, 2)), tiles, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("delta", "row", "column"), [((0.5, 0.0), 9, 9 + p // 2), ((0.0, 0.5), 9 + p // 2, 9)])
def test_half_a_spacing_right_or_down(delta, row, column):
    tile = torch.zeros(1, 4, P, P)
    tile[..., 9, 9] = 1
    moved = canvas.shift(tile, torch.tensor([delta]))
    expected = torch.zeros(1, 4, P, P)
    expected[..., row, column] = 1
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_shift_is_grid_sample_with_held_colours():
    torch.manual_seed(0)
    tiles = torch.rand(6, 4, P, P, requires_grad=True)
    delta = (torch.rand(6, 2) - 0.5).requires_grad_()
    theta = torch.cat([torch.eye(2).expand(6, 2, 2), -delta[..., None]], dim=-1)
    grid = F.affine_grid(theta, [6, 4, P, P], align_corners=False)
    theirs = torch.cat(
        [
            F.grid_sample(tiles[:, :3], grid, "bilinear", "border", align_corners=False),
            F.grid_sample(tiles[:, 3:], grid, "bilinear", "zeros", align_corners=False),
        ],
        dim=1,
    )
    ours = canvas.shift(tiles, delta)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    weights = torch.rand_like(ours)
    gradients = [torch.autograd.grad((image * weights).sum(), (tiles, delta)) for image in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 2), (3, 3), (2, 1)])
def test_the_tile_of_an_anchor_is_painted_in_its_window(i, j):
    tiles = torch.zeros(1, 1, G, G, 4, P, P)
    tiles[0, 0, i, j] = 1
    lit = canvas.paint(tiles).sum(2)[0, 0, 3]
    expected = torch.zeros(S, S)
    rows, columns = (slice(max(0, n * p - p // 2), (n + 1) * p + p // 2) for n in (i, j))
    expected[rows, columns] = 1
    assert torch.equal(lit, expected)


def test_parities_cover_the_canvas_less_at_its_edges():
    cover = canvas.paint(torch.ones(1, 1, G, G, 1, P, P)).sum(2)[0, 0, 0]
    line = torch.full((S,), 2.0)
    line[: p // 2] = line[-p // 2 :] = 1
    assert torch.equal(cover, line[:, None] * line)
    assert (cover[S // 2, S // 2], cover[0, S // 2], cover[0, 0]) == (4, 2, 1)


def test_painted_crops_are_the_image():
    x = torch.rand(B, 3, S, S)
    tiles = canvas.crops(x, p)
    assert tiles.shape == (B, G * G, 3, P, P)
    torch.testing.assert_close(tiles[0, 5], x[0, :, p // 2 : p // 2 + P, p // 2 : p // 2 + P])
    alpha = torch.ones(B, G * G, 1, P, P)
    images = canvas.paint(torch.cat([tiles, alpha], 2).view(B, 1, G, G, 4, P, P))[:, 0]  # (B, 4, 4, S, S)
    for image in images.unbind(1):
        assert torch.equal(image[:, :3], x * image[:, 3:])
    assert images[:, :, 3].any(1).all()


def test_shares_are_those_of_painting_one_by_one():
    torch.manual_seed(0)
    images, ground = torch.rand(B, 8, 4, S, S), torch.rand(B, 3, S, S)
    stack = canvas.composite(ground, images)
    painted, shares = ground, [torch.ones(B, 1, S, S)]
    for image in images.unbind(1):
        colour, alpha = image[:, :3], image[:, 3:]
        painted = (1 - alpha) * painted + alpha * colour
        shares = [share * (1 - alpha) for share in shares] + [alpha]
    torch.testing.assert_close(stack.image, painted, rtol=0, atol=1e-6)
    torch.testing.assert_close(stack.background, shares[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(stack.visible, torch.stack(shares[1:], 1), rtol=0, atol=1e-6)
    total = stack.background + stack.visible.sum(1)
    torch.testing.assert_close(total, torch.ones(B, 1, S, S), rtol=0, atol=1e-5)


def test_the_order_matters_where_tiles_overlap():
    torch.manual_seed(0)
    ground, order = torch.rand(1, 3, S, S), torch.tensor([2, 0, 3, 1])
    tiles = torch.zeros(1, 1, G, G, 4, P, P)
    tiles[0, 0, 0, 0], tiles[0, 0, 0, 2], tiles[0, 0, 2, 1] = opaque(3)  # three parities, nowhere two at a pixel
    apart = canvas.paint(tiles)[:, 0]
    before, after = (canvas.composite(ground, images).image for images in (apart, apart[:, order]))
    assert torch.equal(before, after)
    tiles[0, 0, 1, 1] = opaque()
    together = canvas.paint(tiles)[:, 0]
    before, after = (canvas.composite(ground, images).image for images in (together, together[:, order]))
    assert not torch.allclose(before, after)


def test_opaque_images_keep_gradients_finite_and_true():
    """The product over 1 - alpha is differentiated where several factors are exactly 0."""
    torch.manual_seed(0)
    images = torch.rand(1, 4, 4, 4, 4, dtype=torch.float64)
    images[:, 1:3, 3] = 1
    images[:, 3, 3, :2] = 1
    images.requires_grad_()
    ground = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g, x: canvas.composite(g, x).image, (ground, images))


def test_every_anchor_gets_its_window_of_its_parity():
    torch.manual_seed(0)
    tiles = torch.rand(B, N, G, G, 3, P, P)
    maps = canvas.spread(canvas.paint(tiles), G, p)
    assert maps.shape == (B, N * G * G, 3, S, S)
    for n, i, j in [(0, 0, 0), (0, 0, 3), (1, 1, 2), (1, 3, 3), (0, 2, 1)]:
        alone = torch.zeros_like(tiles)
        alone[:, n, i, j] = tiles[:, n, i, j]
        assert torch.equal(maps[:, n * G * G + i * G + j], canvas.paint(alone).sum(2)[:, n])


def test_boxes_are_moved_tiles_cut_to_window_and_canvas():
    delta = torch.zeros(1, 1, G, G, 2)
    delta[0, 0, 1, 2] = torch.tensor([0.25, -0.5])
    boxes = canvas.boxes(delta, G, p)
    assert boxes.shape == (1, G * G, 4)
    assert boxes[0, 0].tolist() == [0, 0, 1.5 * p, 1.5 * p]
    assert boxes[0, 6].tolist() == [1.75 * p, 0.5 * p, 3.5 * p, 2 * p]
