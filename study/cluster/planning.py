"""The plan of a study, from one training step that is timed on this machine or derived from its operations."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

import trainables
from data import subset
from data.source import local_folder
from study.cluster import places
from study.cluster.estimate import Machines, Plan, Step, estimate
from study.presets import Resolved
from trainables import noise, operations
from trainables.compiled import CompiledForward
from trainables.crew import out_of_memory
from trainables.model import SegmentationModel
from trainables.precision import autocast
from trainables.threads import one_thread

SUSTAINED_TFLOPS = 5.0
"""What a data-centre GPU does with small convolutions in float32, roughly; an assumption, not a measurement."""


def plan(study: Resolved, machines: Machines) -> tuple[Step, Plan]:
    """Measure a step and plan the study. Raises ValueError for a study that the cluster has no places for."""
    asked, counts = study.config, _counts(study)
    places.fitting(asked, asked.gpus or 0.0, machines.nodes())  # before the step, which may take a while
    step = measure(study, machines)
    return step, estimate(
        step,
        machines,
        asked,
        steps=study.steps,
        reports=study.reports,
        images=subset.count(counts["train"], asked.data_fraction) + counts["val"],
        image_bytes=4 * study.image_size**2,
        validation_images=min(asked.validation_images, counts["val"]),
        reruns=study.reruns,
    )


def _counts(study: Resolved) -> Mapping[str, int]:
    """Images per split: as published, else as they are found here. Raises ValueError where neither says it."""
    data, root = study.data, study.config.data_root
    if data.source.counts(data.variant) or not (data.source.drawn or root):
        return data.official_counts()
    return data.source.find(data.variant, root and os.path.abspath(os.path.expanduser(local_folder(root)))).counts


def measure(study: Resolved, machines: Machines) -> Step:
    """One training step of the first trial: given by hand, timed on this machine, or derived from its operations."""
    hyperparameters = study.proposal(study.data.max_objects).base_hyperparameters()
    batch = hyperparameters["batch_size"]
    if machines.seconds_per_step is not None:
        return Step(machines.seconds_per_step, batch, "given")
    model = trainables.build(study.config.model, hyperparameters, study.image_size)
    on_gpu = machines.gpus > 0 and torch.cuda.is_available()
    timed = time_step(study, model, torch.device("cuda" if on_gpu else "cpu"))
    if on_gpu or not machines.gpus:
        device = "GPU" if on_gpu else "CPU core"
        return Step(timed.seconds, batch, f"measured on one {device} of this machine{timed.remarks(batch)}")
    operations = count_operations(model, study.image_size)
    tflops = machines.tflops or SUSTAINED_TFLOPS
    return Step(
        operations * batch / (tflops * 1e12),
        batch,
        f"{operations / 1e9:,.1f} GFLOP an image, in {timed.seconds / batch:.2g} s on a core here; "
        f"at {tflops:g} TFLOP/s on a GPU"
        + ("" if machines.tflops else ", which is assumed: give --seconds-per-step if you can"),
        within=2.0,
    )


def count_operations(model: SegmentationModel, image_size: int) -> int:
    """Floating-point operations of a step on one image, in the middle of a trial: convolutions and matrix products."""
    with operations.counter() as counter, noise.drawn_from(torch.Generator().manual_seed(0)):
        image = noise.uniform((1, 3, image_size, image_size), torch.empty(()))
        model(image, model.config.steps // 2).loss.backward()
    return counter.get_total_flops()


WORKS_ENOUGH = 0.8
"""Share of a step in which kernels run from which on one trial has a GPU: a second one can only fill the rest."""
ROOM = 0.8
"""Share of a GPU's memory for its trials' tensors; an assumption: the rest is CUDA's own and the allocator's."""


@dataclass(frozen=True)
class OnGpu:
    """How a training step uses a GPU."""

    works: float
    """share of the step's time in which kernels run"""
    peak: int
    """bytes of tensors, at most"""
    memory: int
    """bytes of the GPU"""

    def advice(self) -> str:
        """Whether several trials should share a GPU.

        Measured with SPACE, whose kernels run in 59 % of a step: two processes train 1.19 times as many images as one,
        and four no more than two (docs/gpu.md).
        """
        works = f"kernels run in {self.works:.0%} of a step"
        if self.works > WORKS_ENOUGH:
            return f"{works}: a second trial at a time would gain little"
        if 2 * self.peak > ROOM * self.memory:
            return f"{works}, but two trials do not fit into its {self.memory / 2**30:.0f} GiB"
        return f"{works}: two trials at a time may train more together, try --gpus 0.5"


@dataclass(frozen=True)
class Timed:
    """A training step that was timed."""

    seconds: float
    """of a step with the model's batch"""
    images: int
    """that were timed, and scaled up to the batch"""
    failure: str | None
    """why torch.compile was left out although it was asked for, in one line"""
    gpu: OnGpu | None = None
    """how it used its GPU, if that was asked for and can be told"""

    def remarks(self, batch: int) -> str:
        """What a reader of the seconds of a ``batch`` must know, to follow them; empty if nothing."""
        scaled = f", scaled up from {self.images}" if self.images != batch else ""
        return scaled + (f"; {self.failure}" if self.failure else "")


def time_step(study: Resolved, model: SegmentationModel, device: torch.device, *, watched: bool = False) -> Timed:
    """Time a training step on one batch.

    Forward, backward and optimiser on random images in the middle of a trial, since some models begin with more work
    than they go on with; the second of two steps counts. ``watched``: a third one tells how it uses a GPU. Raises
    ValueError for a batch that does not fit into memory.
    """
    batch, size, precision = model.config.batch_size, study.image_size, study.config.precision
    # A full batch of the published configuration takes minutes on a CPU: one image, scaled up.
    one = study.preset == "paper" and device.type == "cpu"
    images = 1 if one else min(batch, study.config.micro_batch or batch)
    model = model.to(device)
    optimizers = model.optimizers()
    generator = torch.Generator(device).manual_seed(0)
    compiled = CompiledForward(model, generator) if study.config.compile else None

    def step(image: torch.Tensor) -> float:
        started = time.perf_counter()
        with autocast(device, precision):
            loss = (model if compiled is None else compiled)(image, model.config.steps // 2).loss
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device
        return time.perf_counter() - started

    try:
        with one_thread(), noise.drawn_from(generator):
            image = noise.uniform((images, 3, size, size), torch.empty((), device=device))  # (B, 3, H, W)
            try:
                step(image)
            except Exception as error:  # torch.compile may fail in the backward pass too
                if compiled is None or compiled.failure is not None or out_of_memory(error):
                    raise
                if study.config.workers_per_trial > 1:
                    raise ValueError(
                        f"--compile fails in the backward pass of {study.config.model}, and trials of several workers "
                        f"cannot go on without it: {error}; leave it out"
                    ) from error
                compiled.fail(error)
            # Outside the except block, so that what a failed attempt has allocated is free.
            if compiled is not None and compiled.failure is not None:
                model.zero_grad(set_to_none=True)
                step(image)
            seconds = step(image)
            gpu = _on_gpu(lambda: step(image), seconds, device) if watched and device.type == "cuda" else None
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ValueError(
            f"a step with {images:,} images does not fit into memory; give a smaller --micro-batch, the images of a "
            "forward pass, or --set batch_size=..."
        ) from error
    return Timed(seconds * batch / images, images, compiled.failure if compiled is not None else None, gpu)


def _on_gpu(step: Callable[[], float], seconds: float, device: torch.device) -> OnGpu | None:
    """How ``step``, which takes so many ``seconds``, uses the GPU ``device``; None where no kernel can be seen."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
    kernels = sum(row.self_device_time_total for row in profiler.key_averages()) / 1e6
    memory = torch.cuda.get_device_properties(device).total_memory
    return OnGpu(min(1.0, kernels / seconds), torch.cuda.max_memory_allocated(device), memory) if kernels else None
