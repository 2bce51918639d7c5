"""What the SDK brings beside PopTorch: popdist, popart, horovod.torch."""
