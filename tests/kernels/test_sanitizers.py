"""The operators on the host and the CPU kernel, under the address and undefined-behaviour sanitizers.

To compile them so takes a processor a minute: only with ``--long`` (or by ``make -C kernels sanitize``).
"""

import os
import shutil
import subprocess

import pytest

from ipu_train.kernels import build


@pytest.mark.long
def test_nothing_is_found_by_the_sanitizers(tmp_path):
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    try:
        compiler = build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    flags = ["-fsanitize=address,undefined", str(probe), "-o", str(tmp_path / "probe")]
    if subprocess.run([*compiler, *flags], capture_output=True).returncode != 0:
        pytest.skip("the C++ compiler comes without the sanitizers' libraries")
    run = subprocess.run(
        [
            "make",
            f"-j{os.cpu_count() or 1}",
            "-C",
            str(build.ROOM),
            "sanitize",
            f"BUILD={tmp_path}",
            f"CXX={' '.join(compiler)}",
            "OPTIMIZE=-O0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert "operators ran on the host" in run.stdout and "the CPU kernel ran" in run.stdout
