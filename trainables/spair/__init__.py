"""SPAIR: a variational autoencoder over a grid of cells, each of which may hold one object, inferred in order.

Crawford and Pineau, "Spatially Invariant Unsupervised Object Detection with Convolutional Neural Networks", AAAI 2019;
with the relaxed presence and the background of the ClevrTex benchmark (Karazija et al. 2021, arXiv 2111.10265).
"""

from trainables.spair.config import Config
from trainables.spair.model import Model

__all__ = ["Config", "Model"]
