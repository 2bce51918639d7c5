"""Models and data sets of the user's own: registered from Python, from a file, or by an installed package.

A configuration names them as it names those of ipu-train: ``model.name: mine`` and ``data: {name: registered, dataset:
mine}``. Three ways make a name known:

* Python: :func:`register_model`, :func:`register_dataset` before the configuration is loaded;
* a file or a module: the name ``my_file.py:function`` or ``package.module:function`` loads it;
* an installed package: an entry point of the group ``ipu_train.plugins`` is a function that registers what there is. It
  is called when a configuration holds a name that nobody knows.
"""

from ..models import RegistrationError, register_model
from .datasets import OwnDataset, register_dataset
from .loading import find_dataset, find_model

__all__ = [
    "OwnDataset",
    "RegistrationError",
    "find_dataset",
    "find_model",
    "register_dataset",
    "register_model",
]
