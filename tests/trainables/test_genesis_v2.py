"""Genesis-V2 against what must hold without a reference: counts, densities, GECO, the prior and initial losses."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainables
from search_spaces.genesis_v2 import TINY
from trainables import noise
from trainables.distributions import mixture_log_density, normal_kl
from trainables.genesis_v2 import Config, Model
from trainables.genesis_v2.clustering import stick_breaking
from trainables.genesis_v2.model import sampled_kl
from trainables.output import SegmentationOutput

unreachable_goal = pytest.mark.filterwarnings("ignore:GECO's goal")

SMALL = {"num_slots": 4, "feat_dim": 16, "bottleneck_dim": 32}


def model(image_size: int = 32, seed: int = 0, **keys: Any) -> Model:
    """A freshly initialised narrow model."""
    torch.manual_seed(seed)
    built = trainables.build("genesis_v2", SMALL | keys, image_size)
    assert isinstance(built, Model)
    return built


def images(batch: int, size: int = 32) -> Tensor:
    """Uniform noise (B, 3, size, size)."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def explain(m: Model, image: Tensor, seed: int = 0) -> SegmentationOutput:
    with noise.drawn_from(torch.Generator().manual_seed(seed)):
        return m(image, 0)


def attention(m: Model, image: Tensor, order: Tensor) -> Tensor:
    """Attention masks (B, K, N) with the seeds drawn by ``order`` (B, N)."""
    return stick_breaking(m.embedding(m.unet(image)), order, m.log_sigma.exp(), m.config.num_slots).exp()


def count(*modules: nn.Module) -> int:
    """Parameters of modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("image_size", "num_slots", "total", "unet"),
    [
        (32, 11, 2_618_574, 1_726_016),
        (64, 11, 2_729_422, 1_836_864),
        (96, 11, 3_387_342, 2_494_784),
        (128, 11, 2_840_270, 1_947_712),
        (128, 5, 2_840_270, 1_947_712),
    ],
)
def test_published_parameter_counts(image_size: int, num_slots: int, total: int, unet: int) -> None:
    with torch.device("meta"):
        m = trainables.build("genesis_v2", {"num_slots": num_slots}, image_size)
    assert isinstance(m, Model) and m.prior is not None
    assert count(m.unet) == unet
    assert count(m.embedding.head) == 36_992 and count(m.embedding.colour) == 520 and m.embedding.gate.numel() == 1
    assert m.log_sigma.dtype == torch.float32 and m.log_sigma.numel() == 1
    assert [count(layer) for layer in m.posterior.features] == [36_992, 8_320]
    assert count(m.posterior.latent) == 33_280
    assert [count(m.decoder.layers[i]) for i in (0, 1, 3, 6, 9, 12)] == [105_664, 128, 102_464, 102_464, 102_464, 260]
    assert count(m.decoder) == 413_828
    assert (count(m.prior.lstm), count(m.prior.linear)) == (329_728, 32_896)
    assert count(m) == total
    if image_size == 128:
        assert (count(m.unet.down), count(m.unet.up), count(m.unet.mlp)) == (445_248, 959_488, 542_976)


@pytest.mark.parametrize(
    ("image_size", "feat_dim", "bottleneck_dim", "total"),
    [(32, 16, 64, 202_110), (32, 32, 64, 658_030), (64, 16, 64, 209_086)],
)
def test_narrow_parameter_counts(image_size: int, feat_dim: int, bottleneck_dim: int, total: int) -> None:
    assert count(model(image_size, feat_dim=feat_dim, bottleneck_dim=bottleneck_dim)) == total


@pytest.mark.parametrize(("image_size", "side"), [(32, 4), (64, 4), (96, 6), (128, 4)])
def test_the_unet_narrows_to_its_bottleneck(image_size: int, side: int) -> None:
    with torch.device("meta"):
        unet = model(image_size).unet
        widths = tuple([len(block[0].weight) for block in path] for path in (unet.down, unet.up))
        assert unet(torch.empty(1, 3, image_size, image_size)).shape == (1, 16, image_size, image_size)
    assert unet.side == side
    plans = {
        32: ([16, 32, 32, 32], [32, 32, 16, 16]),
        64: ([16, 16, 32, 32, 32], [32, 32, 16, 16, 16]),
        96: ([16, 16, 32, 32, 32], [32, 32, 16, 16, 16]),
        128: ([16, 16, 16, 32, 32, 32], [32, 32, 16, 16, 16, 16]),
    }
    assert widths == plans[image_size]


def test_masks_share_out_each_pixel() -> None:
    m, x = model(gate_init=1.0), images(2)
    explain(m, x).check(x)
    masks = attention(m, x, torch.rand(2, 1024))
    assert float(masks.detach().min()) >= 0
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 1024), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gate", [0.0, 0.1])
def test_a_shut_gate_stops_gradients(gate: float) -> None:
    """Of a fresh model everything but the embedding's layers learns, of an open one everything."""
    m = model(gate_init=gate)
    explain(m, images(2)).loss.backward()
    for name, parameter in m.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if name == "embedding.colour.bias":
            continue  # moves all embeddings alike: its gradient is rounding
        still = gate == 0 and name.startswith(("embedding.head", "embedding.colour"))
        assert bool(parameter.grad.any()) != still, name


def test_equal_distributions_have_no_divergence() -> None:
    mean, std = torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1
    assert (sampled_kl(torch.randn(2, 3, 4), mean, std, mean, std) == 0).all()


def test_the_sampled_divergence_converges() -> None:
    mean, std = torch.tensor([0.5, -1.0]), torch.tensor([0.3, 1.5])
    z = mean + std * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    estimate = sampled_kl(z, mean, std, torch.zeros(2), torch.ones(2)).mean(0)
    torch.testing.assert_close(estimate, 0.5 * (mean**2 + std**2 - 1) - std.log(), rtol=0.02, atol=0.01)
    torch.testing.assert_close(estimate, normal_kl(mean, std, 0.0, 1.0), rtol=0.02, atol=0.01)


def test_the_reconstruction_error_has_a_floor() -> None:
    x, floor = images(1, 128), 27_636.4
    log_masks = torch.randn(1, 3, 1, 128, 128).log_softmax(1)
    means = x[:, None].expand(-1, 3, -1, -1, -1)
    assert float(-mixture_log_density(x, log_masks, means, 0.7).sum()) == pytest.approx(floor, abs=1)
    worse = means + 0.01 * torch.randn(1, 3, 3, 128, 128)
    assert float(-mixture_log_density(x, log_masks, worse, 0.7).sum()) > floor + 1
    assert Config().floor * 3 * 128**2 == pytest.approx(floor, abs=0.1)


@unreachable_goal
def test_geco_weighs_the_divergence() -> None:
    """At 128x128."""
    values = 3 * 128**2

    def weight(error: float, steps: int, **keys: Any) -> float:
        m = model(128, **keys)
        for _ in range(steps):
            m.update_geco(torch.tensor(error * values))
        return float(m.kl_weight)

    assert weight(0.58, 10_000, g_goal=0.5655) == pytest.approx(1.83e-8, rel=0.02)
    assert weight(Config().floor, 1000, g_goal=0.5655) == pytest.approx(53.35, rel=0.02)
    assert weight(0.6, 1000, g_goal=0.6) == pytest.approx(1)
    assert weight(Config().floor, 3000, replicate=True) > 1e-10
    assert weight(Config().floor, 3009, replicate=True) == pytest.approx(1e-10)


def test_geco_averages_the_error_and_moves_in_training_only() -> None:
    m = model(g_lr=1e-3)
    before = {name: buffer.clone() for name, buffer in m.named_buffers()}
    output = explain(m, images(2))
    with torch.no_grad():
        explain(m.eval(), images(2))
    assert all(torch.equal(buffer, before[name]) for name, buffer in m.named_buffers())
    with torch.no_grad():
        m.after_step(0, output)
        assert float(m.geco_error) == pytest.approx(float(output.terms["nll"]))
        slack = m.config.goal * 3 * 32**2 - float(m.geco_error)
        assert slack < 0 and float(m.kl_weight) == pytest.approx(math.exp(4e-3 * slack), rel=1e-4)
        m.update_geco(m.geco_error + 100)
        assert float(m.geco_error) == pytest.approx(float(output.terms["nll"]) + 1, rel=1e-6)
    assert float(output.terms["kl_weight"]) == 1
    assert {"kl_weight", "geco_error", "geco_started"} <= m.state_dict().keys()


def test_a_fixed_weight_stays() -> None:
    m = model(kl_mode="fixed", kl_weight=0.3)
    output = explain(m, images(2))
    m.after_step(0, output)
    assert float(m.kl_weight) == pytest.approx(0.3)
    torch.testing.assert_close(output.loss, output.terms["nll"] + 0.3 * output.terms["kl"])


def test_the_order_of_slots_matters_to_the_prior_alone() -> None:
    m, x, z, order = model(), images(2), torch.randn(2, 4, 16), [2, 0, 3, 1]
    assert m.prior is not None
    colour, logits = m.decoder(z)
    permuted_colour, permuted_logits = m.decoder(z[:, order])
    torch.testing.assert_close(
        mixture_log_density(x, logits.log_softmax(1), colour, 0.7).sum(),
        mixture_log_density(x, permuted_logits.log_softmax(1), permuted_colour, 0.7).sum(),
    )
    torch.testing.assert_close(
        (logits.softmax(1) * colour).sum(1), (permuted_logits.softmax(1) * permuted_colour).sum(1)
    )
    mean, std = torch.zeros(2, 4, 16), torch.ones(2, 4, 16)
    kl, permuted = (sampled_kl(s, mean, std, *m.prior(s)).sum() for s in (z, z[:, order]))
    assert abs(float((kl - permuted).detach())) > 1e-3


def test_the_prior_is_autoregressive() -> None:
    m, z = model(), torch.randn(2, 4, 16)
    assert m.prior is not None
    mean, std = m.prior(z)
    assert (mean[:, 0] == 0).all() and (std[:, 0] == 1).all()
    assert float(mean.detach().abs().max()) < 1 and float(std[:, 1:].detach().mean()) == pytest.approx(0.982, abs=2e-3)
    changed = z.clone()
    changed[:, 2] += 1
    new_mean, _ = m.prior(changed)
    assert torch.equal(new_mean[:, :3], mean[:, :3]) and not torch.equal(new_mean[:, 3], mean[:, 3])
    independent = model(autoreg_prior=False)
    assert independent.prior is None and count(independent) == count(m) - count(m.prior)
    explain(independent, images(2)).loss.backward()


@unreachable_goal
def test_evaluation_takes_the_means_but_replication_samples() -> None:
    x = images(1)
    m = model().eval()
    with torch.no_grad():
        explained = explain(m, x)
        m.posterior.latent[3].bias[16:] += 3  # the posterior's scale
        torch.testing.assert_close(explain(m, x).reconstruction, explained.reconstruction)
        assert float(explained.terms["kl"]) > 0
        published = model(replicate=True).eval()
        assert torch.equal(explain(published, x).reconstruction, explain(published.train(), x).reconstruction)


@pytest.mark.parametrize(("moves", "decoder"), [("attention", False), ("decoder", True), ("both", True)])
def test_the_masks_divergence_moves_what_it_is_told_to(moves: str, decoder: bool) -> None:
    m = model(mask_kl_weight=1.0, mask_kl_moves=moves, gate_init=1.0)
    output = explain(m, images(2))
    base = output.terms["nll"] + output.terms["kl"]
    torch.testing.assert_close(output.loss, base + output.terms["mask_kl"])
    output.terms["mask_kl"].backward()
    last = m.decoder.layers[12]
    assert isinstance(last, nn.Conv2d) and (last.weight.grad is not None) == decoder
    assert m.log_sigma.grad is not None


@pytest.mark.parametrize(
    ("value", "loss", "nll", "kl"),
    [(0.5, (6_950, 7_250), (6_930, 7_150), (20, 90)), (0.0, (9_400, 11_300), (9_350, 11_250), (15, 90))],
)
def test_the_initial_loss_is_the_published_one(
    value: float, loss: tuple[float, float], nll: tuple[float, float], kl: tuple[float, float]
) -> None:
    """Ranges over five seeds at 64x64 and K = 11, widened."""
    torch.manual_seed(0)
    m = trainables.build("genesis_v2", {}, 64)
    with torch.no_grad():
        output = m(torch.full((4, 3, 64, 64), value), 0)
    for range_, figure in zip((loss, nll, kl), (output.loss, output.terms["nll"], output.terms["kl"]), strict=True):
        assert range_[0] < float(figure) < range_[1]


def test_the_warm_up_and_the_encoders_rate() -> None:
    m = model(lr=1e-3, encoder_lr_scale=0.1, steps=1000, warmup_frac=0.1)
    assert [m.lr_scale(step)[0] for step in (0, 49, 99, 500)] == pytest.approx([0.01, 0.5, 1, 1])
    (optimizer,) = m.optimizers()
    fast, slow = optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == pytest.approx((1e-4, 1e-3))
    assert {*slow["params"]} == {*m.unet.parameters(), *m.embedding.parameters(), m.log_sigma}
    assert len(slow["params"] + fast["params"]) == len(list(m.parameters()))
    assert model().lr_scale(0) == [1.0]
    m = model(schedule="cosine", steps=1000)
    assert [m.lr_scale(step)[0] for step in (0, 500, 1000, 2000)] == pytest.approx([1, 0.5, 0, 0])


@pytest.mark.parametrize("keys", [{}, TINY])
@pytest.mark.parametrize(
    "extreme",
    [
        {"lr": 0.1, "sigma": 0.01, "gate_init": 100.0, "sigma_init_scale": 1e-3},
        {"lr": 0.1, "gate_init": 0.0, "sigma_init_scale": 1e4, "posterior_std_bias": -15.0, "kl_weight": 100.0},
        {"num_slots": 2, "feat_dim": 8, "bottleneck_dim": 1, "g_lr": 1.0, "posterior_std_bias": 20.0},
        {"num_slots": 40, "feat_dim": 8, "mask_kl_weight": 100.0, "mask_kl_moves": "both", "gate_init": 10.0},
    ],
)
def test_stays_finite_at_the_limits(keys: dict[str, Any], extreme: dict[str, Any]) -> None:
    m = model(**keys | extreme | {"decoder_groups": 4})
    for step in range(3):
        x = images(1) * step  # black first
        output = explain(m, x, seed=step)
        output.check(x)
        m.zero_grad()
        output.loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in m.parameters())
        for optimizer in m.optimizers():
            optimizer.step()
        with torch.no_grad():
            m.after_step(step, output)
    assert output.loss.isfinite()


def test_bfloat16_keeps_the_sensitive_parts_in_float32() -> None:
    m, x = model(gate_init=1.0), images(2)
    exact = explain(m, x)
    with torch.autocast("cpu", torch.bfloat16):
        output = explain(m, x)
        assert m.embedding(m.unet(x)).dtype == torch.float32
    output.check(x)
    assert output.loss.dtype == output.masks.dtype == torch.float32
    torch.testing.assert_close(output.loss, exact.loss, rtol=0.05, atol=0)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())


def test_geco_goals() -> None:
    assert Config().goal == pytest.approx(0.5655, abs=1e-5)
    assert [Config().goal * 3 * side**2 for side in (128, 64, 32)] == pytest.approx(
        [27_795.5, 6_948.9, 1_737.2], abs=0.2
    )
    assert Config(sigma=0.2, target_mse=0.003).goal == pytest.approx(-0.653, abs=1e-3)
    with pytest.warns(UserWarning, match="goal of 0.5 nats .* must exceed 0.5623"):
        assert Config(replicate=True).goal == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Config(replicate=True, g_goal=0.5655)
        Config(g_goal=0.1, kl_mode="fixed")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feat_dim", 20),
        ("feat_dim", 72),
        ("decoder_groups", 5),
        ("num_slots", 1),
        ("bottleneck_dim", 0),
        ("sigma_init_scale", 0.0),
        ("encoder_lr_scale", -1.0),
        ("target_mse", 0.0),
        ("g_lr", 0.0),
        ("kl_weight", -1.0),
        ("mask_kl_weight", -1.0),
        ("warmup_frac", 1.5),
        ("weight_decay", -0.1),
        ("kl_mode", "beta"),
        ("schedule", "linear"),
        ("mask_kl_moves", "none"),
        ("optimizer", "sgd"),
    ],
)
def test_bad_values_are_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        trainables.build("genesis_v2", {key: value}, 32).optimizers()


@pytest.mark.parametrize("image_size", [16, 40, 100])
def test_sizes_that_do_not_fit_are_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"image size {image_size} does not fit"):
        model(image_size)


def test_defaults_are_the_published_configuration() -> None:
    config = Config()
    assert (config.lr, config.batch_size, config.steps, config.num_slots) == (1e-4, 32, 500_000, 11)
    assert (config.optimizer, config.grad_clip, config.sigma, config.kl_mode) == ("adam", None, 0.7, "geco")
    assert config.gate_init == 0 and config.mask_kl_weight == 0
