"""The YAML recipes that ship with ipu-train: one file is one run."""
