"""What all tests of the emulator need."""

import gc

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_of_tests_before(request):
    """A training model that a test has dropped is warned of when it is collected: not in one that reads the log."""
    if "caplog" in request.fixturenames:
        gc.collect()
