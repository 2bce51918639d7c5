"""Behind ``poptorch.DataLoader``: shares of processes, combined batches, the worker process and its buffers."""
