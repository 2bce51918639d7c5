"""Memory and cycles of a traced program on an IPU target. Knows nothing of the PopTorch API."""
