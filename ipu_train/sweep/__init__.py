"""Sweeps: memory and throughput over micro-batch sizes, norms and settings at one global batch size."""
