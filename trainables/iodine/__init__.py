"""IODINE: slots whose posteriors are refined, step by step, by a network that sees the gradients of the loss.

Paper: Greff et al. 2019, "Multi-Object Representation Learning with Iterative Variational Inference",
arXiv:1903.00450. The defaults are those of the ClevrTex benchmark, Karazija et al. 2021, arXiv:2111.10265.
"""

from trainables.iodine.config import Config
from trainables.iodine.model import Model

__all__ = ["Config", "Model"]
