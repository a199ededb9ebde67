"""Scores of trials and baselines per image, and the tables made of them."""
