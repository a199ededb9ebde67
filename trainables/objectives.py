"""What a study may optimise; a file of its own, so that the command line needs no torch to know it."""

OBJECTIVES = {"mIoU_fg": "max", "ARI_FG": "max", "MSE": "min", "loss": "min"}
"""Validation metric -> the direction in which it is better."""
