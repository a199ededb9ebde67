"""MarioNette: a background and layers of sprites, chosen from a learned dictionary at the anchors of a grid.

Smirnov et al., "MarioNette: Self-Supervised Sprite Learning", NeurIPS 2021, arXiv 2104.14553; as configured by the
ClevrTex benchmark (Karazija et al. 2021, arXiv 2111.10265).
"""

from trainables.marionette.config import Config
from trainables.marionette.model import Model

__all__ = ["Config", "Model"]
