"""What a training step of SPACE costs at 128x128, in yards: ``python tests/benchmarks/space.py``.

Batch 4, one thread, the published configuration, one backward pass. The published implementation takes 13.7 yards
(12.6-17.1), 10.5 (9.5-11.2) by user time alone (reference_speed.md).
"""

import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.yardstick import cpu_seconds, yard
from trainables.space import Config, Model

REPEATS = 5


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model(Config(), 128)
    optimizers = model.optimizers()
    image = torch.rand(4, 3, 128, 128)

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(image, step=1).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.clip_norm())
        for optimizer in optimizers:
            optimizer.step()

    step()
    ratios = []
    for _ in range(REPEATS):
        before, work, after = yard(3), cpu_seconds(step), yard(3)
        ratios.append([2 * w / (b + a) for w, b, a in zip(work, before, after, strict=True)])
    for name, values, published in zip(
        ("CPU", "user"), zip(*ratios, strict=True), ("13.7 (12.6-17.1)", "10.5 (9.5-11.2)"), strict=True
    ):
        spread = f"{min(values):.1f}-{max(values):.1f}"
        print(f"SPACE, yards per step, {name}: {statistics.median(values):.1f} ({spread}); published {published}")


if __name__ == "__main__":
    main()
