"""The packages, found: everything else about ipu-train stands in setup.cfg."""

from setuptools import find_packages, setup

# folders that stand at the top of the repository and are imported as ipu_train.NAME (package_dir in setup.cfg)
BESIDE = ["models", "kernels", "configs"]

beside = find_packages(include=[pattern for name in BESIDE for pattern in (name, name + ".*")])
setup(
    packages=find_packages(include=["ipu_train", "ipu_train.*"]) + ["ipu_train." + name for name in beside],
)
