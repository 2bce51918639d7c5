"""Checks the types of everything: ``python -m tests.type_check``, with mypy's own arguments if there are any.

models/, kernels/ and configs/ stand at the top of the repository and are installed inside ``ipu_train``. mypy knows
folders only, so it is shown a folder of links that looks like what is installed. Its cache stays in the repository.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ARGUMENTS = ["--config-file", str(REPOSITORY / "mypy.ini"), "--cache-dir", str(REPOSITORY / ".mypy_cache")]


def house_in(folder):
    """The package as it is installed, made of links in ``folder``, which is given back."""
    package = folder / "ipu_train"
    package.mkdir()
    for part in [
        *(REPOSITORY / "ipu_train").iterdir(),
        *(REPOSITORY / n for n in ("models", "kernels", "configs")),
    ]:
        (package / part.name).symlink_to(part, target_is_directory=part.is_dir())
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mypy", *ARGUMENTS, *sys.argv[1:]]
        sys.exit(subprocess.run(command, cwd=house_in(Path(folder))).returncode)
