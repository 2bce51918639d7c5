"""A trained model in use: its weights found again, evaluated on images with labels, and asked about images without."""
