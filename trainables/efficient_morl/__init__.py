"""EfficientMORL: slot attention as inference in a hierarchical VAE, refined by a few cheap gradient steps.

Emami, He, Ranka, Rangarajan, "Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled
Multi-Object Representations", ICML 2021, arXiv:2106.03630; as configured by the ClevrTex benchmark (Karazija et al.
2021, arXiv:2111.10265).
"""

from trainables.efficient_morl.config import Config
from trainables.efficient_morl.model import Model

__all__ = ["Config", "Model"]
