"""One trial on several processes: who takes which images, and what they tell each other, through torch.distributed.

All run the same loop on the same rows, each on its share of a batch. What comes out agrees with what one process
computes, up to rounding: gradients are summed by torch's DistributedDataParallel, the loss and its terms here, and
noise is drawn for the whole batch (``trainables.noise``). So every process holds the same model, optimisers and random
state, and a checkpoint of one is a checkpoint of all. One exception is BatchNorm: on a GPU it normalises by the whole
batch (SyncBatchNorm), on a CPU by each process's share, and the running statistics that count are rank 0's. The other
is ``replicate`` in IODINE and EfficientMORL: as published, gradients taken within forward are divided by the number of
images that are there, which is a process's share of them or a micro-batch.

Models know nothing of this. What they keep in buffers they compute from the terms that ``after_step`` gets, from the
scores that ``on_validation`` gets or from the images of ``initialise``; all three are the same everywhere.
"""

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput

RENDEZVOUS_TIMEOUT = timedelta(minutes=5)
"""How long processes wait for each other to join."""

TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others' numbers. Ray notices processes that die; a validation may take long."""

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes of a trial, as the one of ``rank`` in 0..``size`` - 1 sees them.

    The process group must exist (:func:`join`) before the first of the methods that exchange something.
    """

    rank: int
    size: int

    def parts(self, batch: int, micro_batch: int | None) -> list[range]:
        """This process's images out of 0..``batch`` - 1, in parts of at most ``micro_batch``, as even as possible.

        All processes get as many parts, because SyncBatchNorm waits for the others in each; where one has a single
        image less than the others and ``micro_batch`` is 1, a part has two.
        """
        assert batch >= self.size, f"{batch} images for {self.size} processes"
        share = _cut(range(batch), self.size)[self.rank]
        most = -(-batch // self.size)
        return _cut(share, min(-(-most // (micro_batch or most)), batch // self.size))

    def total(self, values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Sums over all processes of scalars that each has under the same names."""
        if self.size == 1:
            return dict(values)
        stacked = torch.stack([value.to(device, torch.float32) for value in values.values()])
        dist.all_reduce(stacked)
        return dict(zip(values, stacked.unbind(), strict=True))

    def from_first(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives on rank 0, where alone it runs."""
        answer = [compute() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(answer)
        return answer[0]  # type: ignore[return-value]


ALONE = Team(rank=0, size=1)
"""The team of a trial that has one process; it needs no process group."""


def _cut(images: range, pieces: int) -> list[range]:
    """``images`` in ``pieces`` runs, the first ones an image longer where they do not come out even."""
    each, longer = divmod(len(images), pieces)
    starts = [images.start + i * each + min(i, longer) for i in range(pieces + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(starts)]


class Replica:
    """A process's copy of a model, whose gradients are summed over the team in the backward pass.

    Rank 0's weights and buffers are copied to all when it is made.
    """

    def __init__(self, model: SegmentationModel, team: Team):
        self._team = team
        self._module: nn.Module = _LossFirst(model)
        if team.size > 1:
            if next(model.parameters()).is_cuda:
                nn.SyncBatchNorm.convert_sync_batchnorm(model)
            # Which parameters take part depends on the step (DTI-Sprites freezes, EfficientMORL's refinements change),
            # so that the graph is neither static nor whole. Gradients that models take within forward are no matter:
            # they reach no parameter's accumulator, which is where DDP listens.
            self._module = DistributedDataParallel(
                self._module, find_unused_parameters=True, forward_sync_buffers=False
            )

    def __call__(self, images: Tensor, step: int) -> SegmentationOutput:
        """The model's output for ``images`` (B, 3, H, W)."""
        loss, output = self._module(images, step)
        output.loss = loss
        return output

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the sum of all processes' ``loss``; parameters that nobody used keep None."""
        (loss * self._team.size).backward()  # DDP takes the mean

    def on_its_own(self) -> AbstractContextManager[None]:
        """Within this context forward and backward exchange no gradients: for all parts of a batch but the last."""
        return self._module.no_sync() if isinstance(self._module, DistributedDataParallel) else nullcontext()


class _LossFirst(nn.Module):
    """A model whose loss DDP can see; it finds tensors in a tuple, not in a SegmentationOutput."""

    def __init__(self, model: SegmentationModel):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, step: int) -> tuple[Tensor, SegmentationOutput]:
        output = self.model(images, step)
        return output.loss, output


def open_meeting_point(team: Team, host: str) -> dist.TCPStore:
    """Where the processes of ``team`` find each other: a server on a free port of ``host``, this node."""
    return dist.TCPStore(host, 0, team.size, is_master=True, wait_for_workers=False, timeout=RENDEZVOUS_TIMEOUT)


def join(team: Team, device: torch.device, meeting_point: dist.TCPStore | tuple[str, int]) -> None:
    """Make the process group: gloo on CPUs, NCCL on GPUs. Returns when all have come.

    ``meeting_point`` is the server, or its host and port for those on the other side. Raises DistStoreError if a
    process does not come. gloo listens where the host's name leads to; on a team of several hosts that have
    127.0.1.1 there (Debian), set GLOO_SOCKET_IFNAME to the network's interface.
    """
    if isinstance(meeting_point, tuple):
        meeting_point = dist.TCPStore(*meeting_point, team.size, is_master=False, timeout=RENDEZVOUS_TIMEOUT)
    # Asked of the store, since the group would wait as long as for numbers.
    meeting_point.set(f"{team.rank} is here", "")
    meeting_point.wait([f"{rank} is here" for rank in range(team.size)])
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=meeting_point, rank=team.rank, world_size=team.size, timeout=TIMEOUT)


def abort() -> None:
    """Let NCCL operations of this process that wait for the others end with an error; gloo notices by itself."""
    if dist.group.WORLD is not None:
        dist.group.WORLD.abort()


def leave() -> None:
    """Give up the process group, if there is one; those who wait for this process get an error."""
    if dist.is_initialized():
        abort()
        dist.destroy_process_group()
