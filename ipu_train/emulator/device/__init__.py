"""What a compiled model runs on: compiling, batches and replicas, weights, random numbers, executables in files."""
