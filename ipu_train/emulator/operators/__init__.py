"""What PopTorch adds to torch: tensor functions, custom operators, blocks, printing."""
