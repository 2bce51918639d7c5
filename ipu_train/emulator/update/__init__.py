"""Optimizers as the device runs them: what is read from torch's, the rules, LAMB, loss scaling."""
