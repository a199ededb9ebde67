"""DTI-Sprites: an image as layers, each showing one of a few learnt sprites, recoloured, bent and moved.

Monnier, Vincent, Ponce and Aubry, "Unsupervised Layered Image Decomposition into Object Prototypes", ICCV 2021, arXiv
2104.14575; as configured by the ClevrTex benchmark (Karazija et al. 2021, arXiv 2111.10265).
"""

from trainables.dti_sprites.config import Config
from trainables.dti_sprites.model import Model

__all__ = ["Config", "Model"]
