"""What we use of torch that it does not document."""

import importlib
import re
import types
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from study.cluster.planning import count_operations
from trainables.crew import out_of_memory


def test_memory_that_a_cpu_refuses_is_known_by_this_text():
    """``crew.out_of_memory``."""
    with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
        torch.empty(2**56, dtype=torch.uint8)
    assert out_of_memory(caught.value) and issubclass(torch.OutOfMemoryError, RuntimeError)


class GradientWithin(nn.Module):
    """A model that takes a gradient within forward, as IODINE does."""

    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(steps=2)
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images, step):
        inner = self.layer(images).square().sum()
        (gradient,) = torch.autograd.grad(inner, self.layer.weight, create_graph=True)
        return types.SimpleNamespace(loss=inner + gradient.sum())


def test_operations_are_counted_without_the_counters_hooks_on_modules():
    """``trainables.operations`` replaces ``mod_tracker``, whose hooks break gradients taken within forward."""
    model = GradientWithin()
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(1, 3, 8, 8), 1).loss.backward()
    assert set(counter.mod_tracker.parents) == {"Global"}
    assert count_operations(model, 8) == counter.get_total_flops() > 2 * 3 * 4 * 9 * 64


def test_a_summary_can_be_written_to_the_file_of_a_summary_writer(tmp_path):
    """``TensorBoardCallback._finish``: add_hparams would open a subfolder, so its three summaries are added here."""
    writer = SummaryWriter(str(tmp_path))
    summaries = hparams({"lr": 0.1}, {"hparams/mIoU_fg": 0.5})
    for summary in summaries:
        writer._get_file_writer().add_summary(summary, 3)
    writer.close()
    (file,) = tmp_path.iterdir()
    assert len(summaries) == 3 and b"_hparams_/session_start_info" in file.read_bytes()


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_ddp_leaves_buffers_alone_where_it_is_told_to(process_group):
    """``forward_sync_buffers=False`` in ``parallel.Replica``; ``no_sync`` is documented."""
    model = nn.BatchNorm1d(2)
    replica = DistributedDataParallel(model, find_unused_parameters=True, forward_sync_buffers=False)
    assert replica.forward_sync_buffers is False and not replica.will_sync_module_buffers()
    default = DistributedDataParallel(nn.BatchNorm1d(2))
    assert default.will_sync_module_buffers()


def test_the_process_group_can_be_aborted(process_group):
    """``parallel.abort``: ``dist.group.WORLD`` is None before and after, and has ``abort``."""
    dist.group.WORLD.abort()
    dist.destroy_process_group()
    assert dist.group.WORLD is None


def test_one_parameter_in_two_places_of_a_group_warns_with_this_text():
    """The filter in trainables/dti_sprites/model.py."""
    parameter = nn.Parameter(torch.zeros(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.optim.SGD([parameter, parameter], lr=0.1)
    assert any(re.match(".*duplicate parameters", str(each.message)) for each in caught)


def test_more_shapes_are_kept_compiled_where_the_limit_is_higher(monkeypatch):
    """``torch._dynamo.config.recompile_limit`` in trainables/compiled.py."""

    def compilations(limit: int) -> int:
        torch.compiler.reset()
        monkeypatch.setattr(torch._dynamo.config, "recompile_limit", limit)
        graphs = []
        times = torch.compile(lambda x, name: x * len(name), backend=lambda graph, _: graphs.append(graph) or graph)
        for length in range(12):
            times(torch.ones(2), "n" * length)
        return len(graphs)

    assert torch._dynamo.config.recompile_limit == 8
    assert compilations(8) == 8 and compilations(16) == 12


def test_what_compiling_is_told_is_there_to_be_told():
    """What trainables/compiled.py sets in torch's configuration; its tests see the effect."""
    importlib.import_module("torch._inductor.config")
    assert torch._functorch.config.donated_buffer in (True, False)
    assert torch._inductor.config.compile_threads is None or torch._inductor.config.compile_threads > 0
