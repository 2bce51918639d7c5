"""The parts of the training loop in ``trainer.py``: what it works with, keeps, reports and writes."""
