"""Found in processes started by a program that runs on the emulator: this name is the emulator's, too."""

import os
import sys

try:
    from ipu_train.emulator._install import alias
except ImportError:  # ipu_train is not installed but was run from its folder
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))
    from ipu_train.emulator._install import alias

alias()
