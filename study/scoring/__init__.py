"""Checkpoints x splits -> scores per image -> tables."""
