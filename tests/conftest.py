"""Hypothesis draws the same examples in every run, so that a test that begins to fail does so because of a change.

``HYPOTHESIS_PROFILE=random`` looks for new counterexamples.

``--poptorch=sdk`` runs the contract tests (``tests/contract``) on the Poplar SDK's PopTorch, on IPUs or Graphcore's
IPUModel.

``--long`` also runs what takes minutes: every recipe is trained, the operators are compiled under the sanitizers.
"""

import importlib
import os
import tempfile

import pytest
from hypothesis import settings

from ipu_train import models
from ipu_train.plugins import datasets, loading

# plans that commands keep, by content: the user's own are left alone, and one run finds another's
os.environ.setdefault(
    "IPU_TRAIN_CACHE",
    os.path.join(tempfile.gettempdir(), f"ipu-train-tests-{os.environ.get('USER', 'plans')}"),
)

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also what takes minutes")
    parser.addoption(
        "--poptorch",
        choices=("emulator", "sdk"),
        default="emulator",
        help="what the contract tests call poptorch: the embedded emulator, or the Poplar SDK's PopTorch",
    )


@pytest.fixture(autouse=True)
def registries():
    """What a test registers is forgotten after it."""
    before = [(registry, dict(registry)) for registry in (models.OWN, datasets.OWN, loading._loaded)]
    yield
    for registry, content in before:
        registry.clear()
        registry.update(content)


@pytest.fixture(scope="session")
def poptorch(request):
    """PopTorch, by the name that programs give it."""
    if request.config.getoption("--poptorch") == "emulator":
        return importlib.import_module("ipu_train.emulator")
    from ipu_train.device import sdk_is_installed

    if not sdk_is_installed():
        pytest.exit(
            "--poptorch=sdk: no PopTorch of the Poplar SDK can be imported in this Python", returncode=4
        )
    return importlib.import_module("poptorch")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; only with --long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: only with --long"))
