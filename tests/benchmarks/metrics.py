"""Cost of scoring, beside the published evaluator's: ``python -m tests.benchmarks.metrics``."""

import numpy as np
import torch

from tests.benchmarks.yardstick import median_seconds, yard
from trainables import metrics

PUBLISHED = {11: (11.9, 10.9, 11.7), 65: (141.0, 125.0, 81.3)}
"""Slots K -> yards per 100 images of the published ``update``: median, the range's minimum, user-only median
(reference_speed.md, rows "all slots used"; batch 8, 128x128, one thread)."""

# calls timed together: user time ticks every 10 ms
BATCH, SIZE, UPDATES = 8, 128, 50


def main() -> None:
    """Print yards per 100 images at K = 11 and 65 in both columns, and how many times faster that is."""
    rng = np.random.default_rng(0)
    true = torch.from_numpy(rng.integers(0, 11, (BATCH, SIZE, SIZE)).astype(np.uint8))
    pred_image, true_image = torch.from_numpy(rng.random((2, BATCH, 3, SIZE, SIZE), np.float32))
    print("            yards / 100 images              times the published evaluator")
    print("            CPU      user     (published)   CPU     vs. range minimum   user")
    for slots, (published, minimum, published_user) in PUBLISHED.items():
        scores = torch.from_numpy(rng.random((BATCH, slots, SIZE, SIZE), np.float32))
        masks = scores / scores.sum(1, keepdim=True)

        def updates(masks: torch.Tensor = masks) -> None:
            for _ in range(UPDATES):
                metrics.score(masks, true, pred_image, true_image)

        before, work, after = yard(), median_seconds(updates), yard()
        # in yards measured just before and after: the machine's speed drifts within seconds
        cpu, user = (
            100 / (BATCH * UPDATES) * seconds * 2 / (b + a) for seconds, b, a in zip(work, before, after, strict=True)
        )
        print(
            f"K = {slots:<8}{cpu:<9.3f}{user:<9.3f}{f'({published}, {published_user})':<16}"
            f"{published / cpu:<8.0f}{minimum / cpu:<20.0f}{published_user / user:.0f}"
        )


if __name__ == "__main__":
    main()
