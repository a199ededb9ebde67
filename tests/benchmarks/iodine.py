"""Cost of an IODINE step, beside the published one: ``python -m tests.benchmarks.iodine``."""

import torch

import trainables
from tests.benchmarks.yardstick import cpu_seconds, yard

PUBLISHED = (49.0, 46.0, 33.0, 30.0)
"""Yards per step of the published model: CPU time and its range's minimum, user time and its range's minimum
(reference_speed.md; batch 1, 128x128, five iterations, one thread, float32)."""

BATCH, SIZE, REPEATS = 1, 128, 3


def main() -> None:
    """Print yards per training step in both columns, beside the published figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = trainables.build("iodine", {"replicate": True, "batch_size": BATCH}, SIZE)
    optimizer = model.optimizers()[0]
    image = torch.rand(BATCH, 3, SIZE, SIZE)

    def step() -> None:
        optimizer.zero_grad()
        model(image, 0).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.clip_norm())
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
