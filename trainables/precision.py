"""The number formats of a forward pass: fp32 throughout, or bf16 where torch's autocast allows it."""

import torch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of ``precision`` ('fp32' or 'bf16') on ``device``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
