"""Commands of ``ipu-train`` that belong to no other room; ``cli.py`` calls them."""
