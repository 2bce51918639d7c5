"""Hypothesis draws the same examples in every run, so that a test that begins to fail does so because of a change.

``HYPOTHESIS_PROFILE=random`` looks for new counterexamples.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
