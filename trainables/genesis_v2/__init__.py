"""Genesis-V2: pixels coloured by clustering in one pass, without refinement, one Gaussian latent per cluster.

Engelcke, Parker Jones and Posner, "GENESIS-V2: Inferring Unordered Object Representations without Iterative
Refinement", NeurIPS 2021, arXiv 2104.09958; as configured by the ClevrTex benchmark (Karazija et al. 2021, arXiv
2111.10265).
"""

from trainables.genesis_v2.config import Config
from trainables.genesis_v2.model import Model

__all__ = ["Config", "Model"]
