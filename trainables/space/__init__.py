"""SPACE: parallel spatial attention for objects and a mixture of components for the background.

Lin et al., "SPACE: Unsupervised Object-Oriented Scene Representation via Spatial Attention and Decomposition",
ICLR 2020, arXiv 2001.02407; as configured by the ClevrTex benchmark (Karazija et al. 2021, arXiv 2111.10265).
"""

from trainables.space.config import Config
from trainables.space.model import Model

__all__ = ["Config", "Model"]
