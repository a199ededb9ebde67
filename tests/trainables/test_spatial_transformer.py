"""Crop and paste against ``grid_sample``, round trips, boxes."""

import pytest
import torch
import torch.nn.functional as F

from trainables.spatial_transformer import crop, paste, pixel_boxes


def reference(source, z_where, size, inverse, align_corners):
    """(M, C, size, size) by affine_grid and grid_sample; ``source`` (M, C, h, w), ``z_where`` (M, 4)."""
    scale, shift = z_where[:, :2], z_where[:, 2:]
    if inverse:
        scale, shift = 1 / (scale + 1e-9), -shift / (scale + 1e-9)
    theta = torch.cat([torch.diag_embed(scale), shift[..., None]], dim=-1)  # (M, 2, 3)
    grid = F.affine_grid(theta, [len(source), source.shape[1], size, size], align_corners)
    return F.grid_sample(source, grid, "bilinear", "zeros", align_corners)


def boxes(B, N):
    scale, shift = torch.rand(B, N, 2) * 0.9 + 0.05, torch.rand(B, N, 2) * 2.6 - 1.3
    return torch.cat([scale, shift], dim=-1).requires_grad_()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("inverse", [False, True], ids=["crop", "paste"])
def test_equals_grid_sample_with_gradients(inverse, align_corners):
    torch.manual_seed(0)
    B, N, C, H, g = 2, 5, 3, 24, 7
    z_where = boxes(B, N)
    if inverse:
        source = torch.rand(B, N, C, g, g + 2, requires_grad=True)
        ours = paste(source, z_where, H, align_corners=align_corners)
        flat = source.flatten(0, 1)
    else:
        source = torch.rand(B, C, H, H + 4, requires_grad=True)
        ours = crop(source, z_where, g, align_corners=align_corners)
        flat = source.repeat_interleave(N, dim=0)
    theirs = reference(flat, z_where.flatten(0, 1), H if inverse else g, inverse, align_corners).view_as(ours)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    weights = torch.rand_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), (source, z_where)),
        torch.autograd.grad((theirs * weights).sum(), (source, z_where)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("scale", "error"), [(0.25, 0.02), (0.15, 0.03)])
def test_paste_then_crop_returns_a_smooth_patch(scale, error):
    line = torch.linspace(-1, 1, 32)
    bump = torch.exp(-(line[:, None] ** 2 + line**2) / 0.3)[None, None, None]
    z_where = torch.tensor([[[scale, scale, 0.1, -0.2]]])
    back = crop(paste(bump, z_where, 128)[:, 0], z_where, 32)
    assert (back - bump).abs().max() < error


def test_identity_is_exact():
    image = torch.rand(2, 3, 32, 32)
    whole = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(2, 1, 4)
    torch.testing.assert_close(crop(image, whole, 32)[:, 0], image, rtol=0, atol=1e-6)
    torch.testing.assert_close(paste(image[:, None], whole, 32)[:, 0], image, rtol=0, atol=1e-6)


def test_a_box_lands_where_its_coordinates_say():
    z_where = torch.tensor([[[0.4, 0.4, 0.1, -0.2]]])
    rows, columns = (paste(torch.ones(1, 1, 1, 32, 32), z_where, 128)[0, 0, 0] > 0.5).nonzero().unbind(1)
    assert (rows.min(), rows.max()) == (26, 76)
    assert (columns.min(), columns.max()) == (45, 95)
    x0, y0, x1, y1 = pixel_boxes(z_where, 128)[0, 0]
    assert torch.allclose(torch.stack([x0, y0, x1, y1]), torch.tensor([44.8, 25.6, 96.0, 76.8]), atol=1e-4)


def test_boxes_are_clipped_to_the_image():
    z_where = torch.tensor([[[0.5, 1.0, 1.2, -1.0]]])
    assert pixel_boxes(z_where, 64).tolist()[0][0] == pytest.approx([54.4, 0, 64, 32], abs=1e-3)


def test_autocast_does_not_blur_coordinates():
    image, z_where = torch.rand(1, 3, 64, 64), boxes(1, 4).detach()
    exact = crop(image, z_where, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(crop(image, z_where, 16), exact)
        assert torch.equal(paste(exact, z_where, 64), paste(exact.float(), z_where.float(), 64))


def test_vanishing_boxes_keep_gradients_finite():
    z_where = torch.tensor([[[1e-30, 1e-12, 0.3, 0.0]]], requires_grad=True)
    patch = torch.rand(1, 1, 1, 8, 8, requires_grad=True)
    paste(patch, z_where, 32).sum().backward()
    assert z_where.grad.isfinite().all() and patch.grad.isfinite().all()
