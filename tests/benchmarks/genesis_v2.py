"""Cost of a Genesis-V2 step, beside the published one: ``python -m tests.benchmarks.genesis_v2``."""

import torch

import trainables
from tests.benchmarks.yardstick import cpu_seconds, yard

PUBLISHED = (18.1, 14.8, 16.1, 13.8)
"""Yards per step of the published model: CPU time and its range's minimum, user time and its range's minimum
(reference_speed.md; batch 4, 128x128, one thread, float32)."""

BATCH, SIZE, REPEATS = 4, 128, 3


def main() -> None:
    """Print yards per training step in both columns, and the share of the published figure's minimum."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = trainables.build("genesis_v2", {"replicate": True, "batch_size": BATCH}, SIZE)
    optimizer = model.optimizers()[0]
    image = torch.rand(BATCH, 3, SIZE, SIZE)

    def step() -> None:
        optimizer.zero_grad()
        model(image, 0).loss.backward()
        optimizer.step()

    step()
    ratios = []
    for _ in range(REPEATS):
        before, work, after = yard(3), cpu_seconds(step), yard(3)
        # in yards of just then: this machine's speed drifts within seconds
        ratios.append([2 * w / (b + a) for w, b, a in zip(work, before, after, strict=True)])
    cpu, user = (sorted(column)[REPEATS // 2] for column in zip(*ratios, strict=True))
    published, minimum, published_user, minimum_user = PUBLISHED
    print(f"CPU   {cpu:5.1f} yards / step; published {published} (at least {minimum})")
    print(f"user  {user:5.1f} yards / step; published {published_user} (at least {minimum_user})")


if __name__ == "__main__":
    main()
