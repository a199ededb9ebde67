"""The number formats of a forward pass: fp32 throughout, or bf16 where torch's autocast allows it."""

import torch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of ``precision`` ('fp32' or 'bf16') on ``device``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def allow_tf32(device: torch.device) -> None:
    """On a GPU, let convolutions and matrix products of this process round fp32 factors to TF32's 10-bit mantissa.

    Sums stay in fp32. Spatial transformers take part: they work out coordinates elementwise, which TF32 leaves alone,
    and only their interpolation weights and pixels are rounded.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
