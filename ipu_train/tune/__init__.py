"""Choosing for memory and speed: pipeline splits, micro-batch size, recomputation, available memory proportion."""
