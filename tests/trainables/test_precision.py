"""Number formats."""

import pytest
import torch

from trainables.precision import allow_tf32


@pytest.fixture(autouse=True)
def _restored():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(("device", "precision"), [("cuda", "high"), ("cpu", "highest")])
def test_only_gpus_round_the_factors_of_matrix_products(device, precision):
    allow_tf32(torch.device(device))
    assert torch.get_float32_matmul_precision() == precision
