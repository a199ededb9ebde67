"""What every model promises, as checks: ``clevrtune check NAME`` and the tests run these.

A check says by a :class:`Broken` which promise is broken, with values and a remedy; whatever else a model raises breaks
it, too.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import trainables
from data import source
from data.loader import Split, as_tensors
from data.scenes import joined
from trainables import checkpoint, noise
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.training import Task, Training

SIZE = 32
"""Pixels of a side, as in the CPU preset."""

SIZES = (32, 64, 96, 128)
"""Sizes that every model takes."""

GLOSSARY = ("batch_size", "steps", "replicate")
"""Fields that every Config has."""

EASY = "plain"
"""The variant of the embedded scenes whose surfaces have flat colours."""

CPU = torch.device("cpu")


class Broken(Exception):
    """A promise that is not kept; the message has the values and what to do."""


@dataclass(frozen=True)
class Candidate:
    """A model that is looked at."""

    name: str
    tiny: Mapping[str, Any]
    """the CPU preset: ``TINY`` of its search space"""
    device: torch.device = CPU
    excused: Mapping[str, str] = field(default_factory=dict)
    """parameter -> why it may end without a gradient"""

    def build(self, *, published: bool = False, size: int = SIZE) -> SegmentationModel:
        """The model, always with the same weights; ``published`` with the published widths, with three slots."""
        fields = trainables.load(self.name).Config.__dataclass_fields__
        three = {"num_slots": 3} if "num_slots" in fields else {}
        torch.manual_seed(0)
        return trainables.build(self.name, three if published else dict(self.tiny), size).to(self.device)

    def training(self, batch: int = 4, precision: str = "fp32", number: int = 0, **changes: Any) -> Training:
        """A trial whose every batch holds the same ``batch`` images."""
        task = Task(self.name, SIZE, steps=1000, reports=10, seed=0, metric="mIoU_fg", precision=precision)
        values = {**self.tiny, "batch_size": batch, **changes}
        return Training(task, values, number, scenes(batch, SIZE), self.device)

    def images(self, count: int, size: int = SIZE) -> Tensor:
        """A few scenes, (B, 3, H, W)."""
        return as_tensors(*scenes(count, size).gather(np.arange(count)), self.device)[0]


@dataclass(frozen=True)
class Promise:
    """One promise."""

    name: str
    """a word for tests"""
    says: str
    """what is promised, as a person reads it"""
    check: Callable[[Candidate], None]
    """raises Broken, or what the model raises"""
    everywhere: bool = True
    """whether it is worth a look on a GPU, too"""


def scenes(count: int, size: int) -> Split:
    """``count`` embedded scenes of ``size`` pixels, always the same."""
    drawn = source.load(source.DEFAULT)
    variant = drawn.with_scenes(drawn.variant(EASY), count)
    found = joined(list(drawn.find(variant, None).scenes("train", False, (size, size))))
    table = pa.table(
        {
            "index": pa.array(found.index),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(found.images),
            "label": pa.FixedShapeTensorArray.from_numpy_ndarray(found.labels),
        }
    )
    return Split([table])


def explain(model: SegmentationModel, image: Tensor, step: int = 0) -> SegmentationOutput:
    """What ``model`` makes of ``image``, always with the same noise."""
    with noise.drawn_from(torch.Generator(image.device).manual_seed(0)):
        output: SegmentationOutput = model(image, step)
        return output


def judged(promises: Sequence[Any], candidate: Any) -> Iterator[tuple[Any, str | None]]:
    """Each of ``promises``, and what is wrong with it in one line, or None."""
    for promise in promises:
        try:
            promise.check(candidate)
        except Exception as error:  # a model may raise anything
            lines = str(error).strip().splitlines() or ["no message"]
            kind = "" if isinstance(error, Broken | AssertionError | ValueError) else f"{type(error).__name__}: "
            yield promise, kind + lines[0]
        else:
            yield promise, None


def require(kept: bool, otherwise: str) -> None:
    """Raise Broken with the text ``otherwise`` unless ``kept``."""
    if not kept:
        raise Broken(otherwise)


def has_config_and_model(candidate: Candidate) -> None:
    """The module has a frozen dataclass Config with the common fields, and a Model."""
    module = trainables.load(candidate.name)
    for needed in ("Config", "Model"):
        require(hasattr(module, needed), f"{module.__file__} has no {needed}; define it there")
    config = module.Config
    frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
    require(frozen, f"{module.__file__}: Config must be a @dataclass(frozen=True)")
    missing = [key for key in GLOSSARY if key not in config.__dataclass_fields__]
    require(not missing, f"Config lacks {', '.join(missing)}; all models have these fields")
    bases = issubclass(module.Model, SegmentationModel)
    require(bases, "Model is no SegmentationModel; write class Model(SegmentationModel)")
    for key in GLOSSARY:
        try:
            trainables.build(candidate.name, {f"{key}s": 1}, SIZE)
        except ValueError as error:
            known = f"did you mean {key}" in str(error) or f"or {key}" in str(error)
            require(known, f"a mistyped {key}s is not answered by its name but by: {error}")
        else:
            raise Broken(f"Config takes an unknown key, {key}s; take no **keywords")


def output_in_training(candidate: Candidate) -> None:
    """Shapes, masks that sum to one, finite numbers, a loss with a gradient."""
    _output(candidate, training=True)


def output_in_evaluation(candidate: Candidate) -> None:
    """The same without gradients."""
    _output(candidate, training=False)


def _output(candidate: Candidate, *, training: bool) -> None:
    model = candidate.build().train(training)
    image = candidate.images(3)
    with torch.set_grad_enabled(training):
        output = explain(model, image)
    output.check(image)
    for name in ("loss", "reconstruction"):
        finite = bool(torch.isfinite(getattr(output, name)).all())
        require(finite, f"{name} is not finite for an untrained model; look at logarithms, exponentials and divisions")
    if training:
        require(output.loss.requires_grad, "the loss has no gradient; leave out detach() and no_grad()")
    else:
        require(not output.loss.requires_grad, "the loss has a gradient within no_grad(); leave out enable_grad there")
    devices = {value.device.type for value in (output.loss, output.reconstruction, output.masks)}
    expected = {candidate.device.type}
    require(devices == expected, f"outputs are on {devices} for images on {expected}; make tensors on image.device")


def every_parameter_learns(candidate: Candidate) -> None:
    """Within a few steps every parameter gets a finite gradient other than zero."""
    trial = candidate.training()
    trial.advance(1)
    trial.step = trial.model.config.steps  # past all milestones
    named = dict(trial.model.named_parameters())
    lazy = dict(named)
    for _ in range(5):
        trial.advance(1)
        for path, parameter in list(lazy.items()):
            if parameter.grad is not None:
                finite = bool(torch.isfinite(parameter.grad).all())
                require(finite, f"the gradient of {path} is not finite; look at square roots and norms of zero")
                if parameter.grad.any():
                    del lazy[path]
    gone = sorted(set(candidate.excused) - set(named))
    require(not gone, f"excused parameters are gone: {', '.join(gone)}")
    left = sorted(set(lazy) - set(candidate.excused))
    require(not left, f"no gradient reaches {', '.join(left)}; use it in the loss, or remove it")


def reconstruction_improves(candidate: Candidate) -> None:
    """Forty steps on four images bring the squared error below 0.8 of what it was."""
    trial = candidate.training()
    image = candidate.images(4)

    def squared_error() -> float:
        with torch.no_grad():
            return float((explain(trial.model, image, trial.step).reconstruction - image).square().mean())

    before = squared_error()
    trial.advance(40)
    after = squared_error()
    require(
        after < 0.8 * before,
        f"after 40 steps the squared error is {after:.4g}, {after / before:.2f} of the {before:.4g} before; it must be "
        "below 0.8: raise lr in TINY, or look at the loss",
    )


def every_size_and_batch_runs(candidate: Candidate) -> None:
    """The published widths at every size; the CPU preset at its two; batches of one image and of three."""
    for size in SIZES:
        for published in (True, False) if size <= 64 else (True,):
            which = "the published configuration" if published else "TINY"
            try:
                model = candidate.build(published=published, size=size).eval()
                for batch in (1, 3):
                    image = candidate.images(batch, size)
                    with torch.no_grad():
                        explain(model, image).check(image)
            except Exception as error:
                said = str(error).strip().partition("\n")[0]
                raise Broken(f"{which} at {size}x{size}: {type(error).__name__}: {said}") from error


def saved_trial_continues(candidate: Candidate) -> None:
    """A trial that was saved and loaded ends with the same weights, bit for bit, as one that went on."""
    whole = candidate.training()
    whole.advance(2)
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.save(folder, whole.state())
        whole.advance(3)
        resumed = candidate.training(number=1)  # other weights, noise and order of images
        resumed.load_state(checkpoint.load(path))
    resumed.advance(3)
    theirs = resumed.model.state_dict()
    changed = [key for key, tensor in whole.model.state_dict().items() if not torch.equal(tensor, theirs[key])]
    remedy = "keep all state in parameters, buffers and optimisers, and draw through trainables.noise only"
    require(not changed, f"after loading, {', '.join(changed[:3])} differ from those of a trial that went on; {remedy}")
    require(resumed.step == whole.step, f"the trial is at step {resumed.step} instead of {whole.step}")


def seed_fixes_output(candidate: Candidate) -> None:
    """The same seed gives the same loss, reconstruction and masks."""
    image = candidate.images(2)
    outputs = []
    for other in (0, 1):
        model = candidate.build()
        torch.manual_seed(other)  # the global generator may be used for initial weights only
        outputs.append(explain(model, image))
    first, second = outputs
    for key in ("loss", "reconstruction", "masks"):
        same = torch.equal(getattr(first, key), getattr(second, key))
        require(same, f"{key} differs between two models of one seed; draw through trainables.noise only")


def bf16_stays_finite(candidate: Candidate) -> None:
    """Training in bf16 stays finite, and what is scored is float32."""
    trial = candidate.training(precision="bf16")
    bad = [name for name, value in trial.advance(3).items() if not np.isfinite(value)]
    bad += [name for name, value in trial.model.named_parameters() if not torch.isfinite(value).all()]
    require(not bad, f"in bf16 {', '.join(bad[:3])} are not finite; compute such parts in float32")
    image = candidate.images(2)
    with torch.autocast(candidate.device.type, dtype=torch.bfloat16):
        output = explain(trial.model, image)
    try:
        output.check(image)
    except AssertionError as error:
        raise Broken(f"under bf16 autocast {error}; add .float() before softmax and sums") from error
    for key in ("loss", "reconstruction", "masks"):
        kind = getattr(output, key).dtype
        require(kind == torch.float32, f"{key} is {kind} under autocast, and scores need float32; add .float()")


PROMISES = (
    Promise("config", "a Config with the common fields, and a Model", has_config_and_model, everywhere=False),
    Promise("training", "the output in training: shapes, masks that sum to one, a finite loss", output_in_training),
    Promise("evaluation", "the output in evaluation", output_in_evaluation),
    Promise("gradients", "every parameter learns", every_parameter_learns),
    Promise("learning", "the reconstruction improves within 40 steps", reconstruction_improves),
    Promise("sizes", "all sizes from 32 to 128, and any batch", every_size_and_batch_runs, everywhere=False),
    Promise("saved", "a saved trial continues bit for bit", saved_trial_continues, everywhere=False),
    Promise("seed", "a seed fixes the output", seed_fixes_output, everywhere=False),
    Promise("bf16", "bf16 stays finite, and what is scored is float32", bf16_stays_finite),
)
"""What a model promises, quick and basic things first."""
