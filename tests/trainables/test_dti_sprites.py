"""DTI-Sprites as a whole: published counts and anchors, what learns when, mask noise, extremes."""

import math

import pytest
import torch
from torch import Tensor, nn

import trainables
from tests.trainables import scenes
from tests.trainables.dti_sprites import BENT, FROZEN, THAWED, diverse, model
from trainables import noise
from trainables.dti_sprites import Model
from trainables.dti_sprites.networks import Heads, ResNet18, SmallEncoder


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def waves(size: int) -> Tensor:
    """Two images (2, 3, size, size) whose losses at the start are known."""
    i = torch.arange(size) / size
    plane = [[(b + 1) * i[:, None] + (c + 1) * i for c in range(3)] for b in range(2)]
    return torch.stack([torch.stack(channels) for channels in plane]).mul(2 * math.pi).sin() / 2 + 0.5


@pytest.mark.parametrize("replicate", [True, False])
def test_published_parameter_counts(replicate: bool) -> None:
    """Without the ten heads of the empty sprite, 279,945 each, which can never matter."""
    with torch.device("meta"):
        m = trainables.build("dti_sprites", {"replicate": replicate}, 128)
    assert isinstance(m, Model)
    assert [p.numel() for p in (m.sprites, m.masks, m.background)] == [48_000, 16_000, 49_152]
    assert count(m.encoder) == 11_176_512 and len(list(m.encoder.parameters())) == 60
    assert count(m.sprite_heads) == 100 * 279_945 == 30_793_950 - 10 * 279_945
    assert (count(m.layer_heads["color"]), count(m.layer_heads["position"])) == (10 * 279_558, 10 * 279_171)
    assert (count(m.background_heads), count(m.occlusion_head)) == (279_558, 284_589)
    assert count(m) == 48_235_051 - 10 * 279_945 == 45_435_601


def test_published_parameter_counts_of_the_complex_variant() -> None:
    keys = {"sprite_transform": "color_projective", "background_transform": "color_projective"}
    with torch.device("meta"):
        m = trainables.build("dti_sprites", keys, 128)
    assert isinstance(m, Model)
    assert count(m.sprite_heads) == 100 * 559_503 == 61_545_330 - 10 * 559_503
    assert count(m.background_heads) == 559_503
    assert count(m) == 79_266_376 - 10 * 559_503


@pytest.mark.parametrize(("size", "hidden", "encoder", "total"), [(32, 32, 23_696, 275_984), (64, 64, None, 627_664)])
def test_small_parameter_counts(size: int, hidden: int, encoder: int | None, total: int) -> None:
    m = model(size, enc_channels=16, head_hidden=hidden, num_slots=5, n_sprites=4)
    assert count(m) == total
    assert encoder is None or count(m.encoder) == encoder


@pytest.mark.parametrize(("size", "cells"), [(32, 2), (64, 2), (96, 3), (128, 4)])
def test_encoders_keep_some_places_apart(size: int, cells: int) -> None:
    with torch.device("meta"):
        image = torch.rand(2, 3, size, size)
        assert ResNet18(64, size)(image).shape == (2, 512, cells, cells)
        small = SmallEncoder(16, size)
        assert small(image).shape == (2, small.outputs, *(2 * [{96: 6}.get(size, 4)]))


def test_the_trunk_starts_as_published() -> None:
    torch.manual_seed(0)
    trunk = ResNet18(64, 128)
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 20 and all(conv.bias is None for conv in convolutions)
    for conv in convolutions:
        outputs, _, h, w = conv.weight.shape
        assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (outputs * h * w)), rel=0.05)
    # the middle of a block: relu(skip + bn(conv(relu(bn(conv))))), here with a skip that is not the identity
    block, x = trunk[5][0].eval(), torch.randn(1, 64, 8, 8)
    inside = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    torch.testing.assert_close(block(x), (inside + block.downsample[1](block.downsample[0](x))).relu())


def test_an_array_of_heads_equals_single_heads() -> None:
    torch.manual_seed(0)
    heads, x = Heads((2, 3), 5, 7, 4), torch.randn(6, 5)
    assert not heads(x).any()
    bound = 1 / math.sqrt(5)
    assert 0.9 * bound < float(heads.first.weight.detach().abs().max()) <= bound
    heads.last.weight.data.normal_()
    heads.last.bias.data.normal_()
    one = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 4))
    for layer, ours in zip(one[::2], (heads.first, heads.second, heads.last), strict=True):
        layer.weight.data, layer.bias.data = ours.weight.data[1, 2], ours.bias.data[1, 2]
    torch.testing.assert_close(heads(x)[:, 1, 2], one(x))
    assert Heads((), 5, 7, 4)(x).shape == (6, 4)


@pytest.mark.parametrize(
    ("size", "slots", "sprites", "loss", "mean"),
    [
        (128, 11, 10, 0.141078, 0.503071),
        (96, 5, 4, 0.136885, 0.548951),
        (64, 5, 4, 0.136809, 0.548189),
        (32, 5, 4, 0.136545, 0.545899),
    ],
)
def test_published_losses_at_the_start(size: int, slots: int, sprites: int, loss: float, mean: float) -> None:
    m = model(size, num_slots=slots, n_sprites=sprites, lambda_empty=1e-4).eval()
    with torch.no_grad():
        output = m(waves(size), FROZEN)
        assert float(output.loss) == pytest.approx(loss, abs=1e-5)
        assert float(output.reconstruction.mean()) == pytest.approx(mean, abs=1e-5)
        assert float(output.terms["usage_0"]) == 1
        assert float(m(waves(size), THAWED).loss) == pytest.approx(0.125, abs=1e-5)


def test_published_weights_at_the_start() -> None:
    m = model(128, num_slots=11, n_sprites=10).eval()
    with torch.no_grad():
        output = m(waves(128), FROZEN)
    masks, coverage = output.masks[0, :, 0], float(output.terms["coverage"])
    # normalised by the sum of the published weights
    side = torch.tensor([0.274661, *[0.069054] * 10])
    torch.testing.assert_close(masks[:, 32, 64], side / side.sum(), rtol=0, atol=1e-5)
    torch.testing.assert_close(masks[1:, 64, 64], torch.full((10,), 0.1), rtol=0, atol=1e-5)
    assert coverage == pytest.approx(10 * 0.0019925, abs=1e-5)
    assert float(masks[0, 0, 0]) == 1
    torch.testing.assert_close(output.boxes, torch.tensor([32.0, 32, 96, 96]).expand(2, 10, 4))


def test_an_image_of_background_stays_empty_once_it_may() -> None:
    m = model(lambda_empty=1e-4).eval()
    background = torch.rand(1, 3, 32, 32)
    m.initialise(background)
    with torch.no_grad():
        frozen, thawed = m(background, FROZEN), m(background, THAWED)
    assert not thawed.presence.any() and float(thawed.loss) < 1e-12 and float(thawed.terms["empty"]) == 1
    assert frozen.presence.all() and float(frozen.terms["empty"]) == 0
    assert (thawed.masks.argmax(1) == 0).all()


def test_the_background_starts_as_the_mean_image() -> None:
    m, images = model(), scenes.images(8, 32)
    m.initialise(images)
    torch.testing.assert_close(m.background[0], images.mean(0))


def test_sprites_learn_once_they_thaw() -> None:
    m, x = diverse(), scenes.images(4, 32)
    m(x, FROZEN).loss.backward()
    for parameter in (m.sprites, m.masks):
        assert parameter.grad is None or not parameter.grad.any()
    assert m.background.grad is not None and m.background.grad.any()
    for name, parameter in m.named_parameters():
        if name.startswith(("encoder", "layer_heads", "background_heads", "occlusion_head")):
            assert parameter.grad is not None and parameter.grad.any(), name
    m.zero_grad()
    output = m(x, THAWED)
    output.loss.backward()
    assert m.sprites.grad is not None and m.masks.grad is not None
    used = [float(output.terms[f"usage_{k}"]) > 0 for k in range(3)]
    assert True in used
    assert [bool(row.any()) for row in m.sprites.grad] == used
    assert [bool(row.any()) for row in m.masks.grad] == used


def test_a_sprite_that_no_layer_shows_has_no_gradient() -> None:
    m = diverse()
    m.masks.data[1] = 0.0
    m.sprites.data[1] = 1.0
    m.eval()(scenes.images(4, 32), THAWED).loss.backward()
    assert m.sprites.grad is not None and not m.sprites.grad[1].any() and m.sprites.grad.any()


def test_only_last_layers_learn_at_once() -> None:
    m, x = model(), scenes.images(4, 32)
    optimizers = m.optimizers()
    m(x, FROZEN).loss.backward()
    color = m.layer_heads["color"]
    assert color.last.weight.grad.any() and not color.first.weight.grad.any()
    for optimizer in optimizers:
        optimizer.step()
    m.zero_grad()
    m(x, FROZEN).loss.backward()
    assert color.first.weight.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in m.encoder.parameters())


@pytest.mark.parametrize("transform", ["projective", "color_projective"])
def test_homographies_begin_at_their_milestone_without_a_jump(transform: str) -> None:
    m, x = diverse(sprite_transform=transform, background_transform="color_projective"), scenes.images(2, 32)
    bending = [m.sprite_heads["projective"], m.background_heads["projective"]]
    for head in bending:
        nn.init.zeros_(head.last.weight)
        nn.init.zeros_(head.last.bias)
    before = m.eval()(x, BENT - 1)
    before.loss.backward()
    assert all(parameter.grad is None for head in bending for parameter in head.parameters())
    m.zero_grad()
    after = m(x, BENT)
    after.loss.backward()
    assert all(head.last.weight.grad.any() for head in bending)
    torch.testing.assert_close(after.reconstruction, before.reconstruction, rtol=0, atol=1e-6)
    if transform == "color_projective":
        assert m.sprite_heads["color"].last.weight.grad.any()


def test_replicated_homographies_do_jump() -> None:
    m, x = diverse(replicate=True).eval(), scenes.images(2, 32)
    nn.init.zeros_(m.sprite_heads["projective"].last.weight)
    nn.init.zeros_(m.sprite_heads["projective"].last.bias)
    with torch.no_grad():
        assert (m(x, BENT).reconstruction - m(x, BENT - 1).reconstruction).abs().max() > 1e-3


def test_mask_noise_is_shared_and_stays_on_the_sprites(monkeypatch: pytest.MonkeyPatch) -> None:
    m, x = model(inject_noise=0.4), scenes.images(2, 32)
    shapes = []

    def uniform(shape, like):
        shapes.append(tuple(shape))
        return torch.rand(shape, generator=torch.Generator().manual_seed(1))

    monkeypatch.setattr(noise, "uniform", uniform)
    alphas = {}
    boxes = torch.tensor([0.5, 0.5, 0, 0]).expand(2, 3, 4)
    for name in ("train", "eval"):
        texture, mask_noise = m.train(name == "train")._textures()
        _, alphas[name] = m._draw(texture.expand(2, 3, *texture.shape), {}, torch.zeros(2, 3, 6), boxes, mask_noise)
    assert shapes == [(4, 1, 32, 32)]  # none in evaluation; the last is the empty sprite's
    noisy, clean = alphas["train"], alphas["eval"]  # (B, L, K, 1, H, W)
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[7:25, 7:25] = False
    assert not noisy[..., outside].any() and not clean[..., outside].any()
    assert float((noisy - clean).detach().abs().max()) <= 0.4
    assert float((noisy - clean).detach()[..., 12:20, 12:20].std()) > 0.05
    assert (noisy == noisy[:1, :1]).all() and not (noisy[:, :, 0] == noisy[:, :, 1]).all()
    first, second = m(x, THAWED), m(x, THAWED)
    assert torch.equal(first.reconstruction, second.reconstruction) and len(shapes) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"sprite_transform": "color_projective", "background_transform": "color_projective"},
        {"sprite_transform": "none", "inject_noise": 0.0},
        {"num_slots": 2, "n_sprites": 1, "replicate": True},
        {"num_slots": 16, "n_sprites": 2, "inject_noise": 3.0, "greedy_iters": 1, "position_spread": 2.0},
        {"encoder": "resnet18", "pool_size": 1, "sprite_frac": 0.05, "scale_init": 0.02},
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_extreme_predictions_stay_finite(keys: dict, batch: int) -> None:
    m, x = diverse(**keys), scenes.images(batch, 32)
    with torch.no_grad():
        for heads in m.modules():
            if isinstance(heads, Heads):
                heads.last.weight.mul_(100)
    output = m(x, BENT)
    output.check(x)
    output.loss.backward()
    assert output.loss.isfinite()
    for name, parameter in m.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_slots", 1),
        ("n_sprites", 0),
        ("greedy_iters", 0),
        ("sprite_frac", 0.0),
        ("scale_init", 1.0),
        ("freeze_frac", 1.1),
        ("inject_noise", -0.1),
        ("encoder_lr_mult", 0.0),
        ("sprite_transform", "affine"),
        ("encoder", "vgg"),
    ],
)
def test_bad_values_are_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        model(**{key: value})
