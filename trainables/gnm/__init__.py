"""GNM, Generative Neurosymbolic Machines: symbolic objects on a grid, drawn from one distributed latent.

Jiang and Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020, arXiv 2010.12152; as configured by the ClevrTex
benchmark (Karazija et al. 2021, arXiv 2111.10265).
"""

from trainables.gnm.config import Config
from trainables.gnm.model import Model

__all__ = ["Config", "Model"]
