"""One trial on several processes: which images each takes, and what they exchange through torch.distributed.

All processes run the same loop on the same batches, each on its share of the images. The result is that of one
process, up to rounding: torch's DistributedDataParallel sums the gradients, :meth:`Team.total` the loss and its terms,
and noise is drawn for the whole batch (``trainables.noise``). So every process holds the same model, optimisers and
random state, and a checkpoint of one is a checkpoint of all. There are two exceptions. BatchNorm normalises by the
whole batch on a GPU (SyncBatchNorm) and by each process's share on a CPU; evaluation and checkpoints use rank 0's
running statistics. With ``replicate``, IODINE and EfficientMORL divide the gradients that they take within forward by
the number of images in it, as published: those of a process's share or of a micro-batch.

Models know nothing of this. They compute what they keep in buffers from the terms that ``after_step`` gets, the scores
that ``on_validation`` gets or the images that ``initialise`` gets; all three are the same on all processes.
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

from trainables.output import SegmentationOutput

RENDEZVOUS_TIMEOUT = timedelta(minutes=5)
"""How long processes wait for each other to join."""

TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others' numbers, long enough for a validation; Ray notices processes that die."""

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The ``size`` processes of a trial, as the one of ``rank`` in 0..``size`` - 1 sees them.

    The process group must exist (:func:`join`) before :meth:`total` or :meth:`from_first` is called.
    """

    rank: int
    size: int

    def parts(self, batch: int, micro_batch: int | None) -> list[range]:
        """This process's images out of 0..``batch`` - 1, in even parts of at most ``micro_batch``.

        All processes get the same number of parts, because SyncBatchNorm waits for the others in each. Where
        ``micro_batch`` is 1 and another process has an image less, a part may therefore have two.
        """
        assert batch >= self.size, f"{batch} images for {self.size} processes"
        share = _cut(range(batch), self.size)[self.rank]
        most = -(-batch // self.size)
        return _cut(share, min(-(-most // (micro_batch or most)), batch // self.size))

    def total(self, values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The sum over all processes of each scalar in ``values``; all have the same names."""
        if self.size == 1:
            return dict(values)
        stacked = torch.stack([value.to(device, torch.float32) for value in values.values()])
        dist.all_reduce(stacked)
        return dict(zip(values, stacked.unbind(), strict=True))

    def from_first(self, compute: Callable[[], T]) -> T:
        """The result of ``compute``, which runs on rank 0 alone."""
        answer = [compute() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(answer)
        return answer[0]  # type: ignore[return-value]


ALONE = Team(rank=0, size=1)
"""The team of a trial of one process; it needs no process group."""


def _cut(images: range, pieces: int) -> list[range]:
    """``images`` in ``pieces`` runs; where that is not even, the first ones have an image more."""
    each, longer = divmod(len(images), pieces)
    starts = [images.start + i * each + min(i, longer) for i in range(pieces + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(starts)]


def connected(model: nn.Module, team: Team) -> nn.Module:
    """``model`` itself for a team of one, else a :class:`Replica`, which is called alike."""
    return model if team.size == 1 else Replica(model)


class Replica(DistributedDataParallel):
    """A process's copy of ``model``; backward leaves the mean of all processes' gradients in its parameters.

    When it is made, it copies rank 0's weights and buffers to all processes. Parameters that no process used keep None
    as gradient.
    """

    def __init__(self, model: nn.Module):
        if next(model.parameters()).is_cuda:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # Unused parameters are looked for in every step, because which ones take part changes: DTI-Sprites freezes
        # some, EfficientMORL refines more or less often. Gradients that models take within forward do not matter here:
        # DDP listens where gradients are accumulated in parameters, and those are not.
        super().__init__(_LossFirst(model), find_unused_parameters=True, forward_sync_buffers=False)

    def forward(self, images: Tensor, step: int) -> SegmentationOutput:
        """The model's output for ``images`` (B, 3, H, W)."""
        loss, output = super().forward(images, step)
        output.loss = loss
        return output


def gradients_kept(forward: nn.Module) -> AbstractContextManager[None]:
    """Within this context backward exchanges no gradients: for all parts of a batch but the last."""
    return forward.no_sync() if isinstance(forward, Replica) else nullcontext()


class _LossFirst(nn.Module):
    """A model whose loss DDP can find: it looks for tensors in tuples, not in a SegmentationOutput."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, step: int) -> tuple[Tensor, SegmentationOutput]:
        output = self.model(images, step)
        return output.loss, output


def open_meeting_point(team: Team, host: str) -> dist.TCPStore:
    """A server on a free port of ``host``, this node, where the processes of ``team`` find each other."""
    return dist.TCPStore(host, 0, team.size, is_master=True, wait_for_workers=False, timeout=RENDEZVOUS_TIMEOUT)


def join(team: Team, device: torch.device, meeting_point: dist.TCPStore | tuple[str, int]) -> None:
    """Form the process group, gloo on CPUs and NCCL on GPUs; returns when all processes are there.

    ``meeting_point`` is the server on rank 0, and its host and port on the others. Raises DistStoreError if a process
    does not come. gloo listens at the address of the host's name; on several hosts where that is 127.0.1.1 (Debian),
    set GLOO_SOCKET_IFNAME to the network's interface.
    """
    if isinstance(meeting_point, tuple):
        meeting_point = dist.TCPStore(*meeting_point, team.size, is_master=False, timeout=RENDEZVOUS_TIMEOUT)
    # The store is asked first, since the group would wait for TIMEOUT.
    meeting_point.set(f"{team.rank} is here", "")
    meeting_point.wait([f"{rank} is here" for rank in range(team.size)])
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=meeting_point, rank=team.rank, world_size=team.size, timeout=TIMEOUT)


def abort() -> None:
    """End with an error what waits for other processes in this one; needed for NCCL, gloo notices by itself."""
    if dist.group.WORLD is not None:
        dist.group.WORLD.abort()


def leave() -> None:
    """Leave the process group, if there is one; processes that wait for this one get an error."""
    if dist.is_initialized():
        abort()
        dist.destroy_process_group()
