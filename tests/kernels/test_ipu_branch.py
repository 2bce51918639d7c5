"""What only the device compiler sees of the codelets, vectors of 64 bits, with stand-ins for its types.

Compiled as popc would (no exceptions, no RTTI) and under the address and undefined-behaviour sanitizers, which see a
vector loaded from an address that is not its own. Whatever is wrong ends that program, and so the test.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipu_train.kernels import build, host

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# The classes get another name than those that the library itself holds; the vertices keep theirs.
DEVICE = (
    "-D__IPU__",
    "-Dproxy_norm=proxy_norm_device",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-strict-aliasing",
)
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def compiler():
    try:
        return build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))


def sanitizers_library(compiler, tmp_path):
    """The address sanitizer's library, which a program must load before all others, and the C++ library, which it must
    find when it begins (an interpreter may load that only with torch); None where there is none."""
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    command = [*compiler, *SANITIZERS, "-shared", "-fPIC", str(probe), "-o", str(tmp_path / "probe.so")]
    if subprocess.run(command, capture_output=True).returncode != 0:
        return None
    found = []
    for name in ("libasan.so", "libstdc++.so.6"):
        answer = subprocess.run([*compiler, f"-print-file-name={name}"], stdout=subprocess.PIPE, text=True)
        found.append(answer.stdout.strip())
    return ":".join(filter(os.path.isabs, found)) if os.path.isabs(found[0]) else None


def test_the_ipus_own_branch_agrees_with_the_definition_under_the_sanitizers(compiler, tmp_path):
    preload = sanitizers_library(compiler, tmp_path)
    room = build.ROOM
    sources = [room / "proxy_norm" / "codelets.cpp", room / "host_poplar" / "vertices.cpp"]
    includes = [room / "host_poplar" / "include", room / "host_poplar" / "ipu_mock", room / "proxy_norm"]
    flags = ["-O1", *DEVICE, *(SANITIZERS if preload else ())]
    vertices = build.shared_library("proxy_norm_device", sources, includes, flags)
    run = subprocess.run(
        [sys.executable, "-m", "tests.kernels.ipu_branch", host.library(), str(vertices)],
        cwd=str(REPOSITORY),
        env={**os.environ, "LD_PRELOAD": preload or "", "ASAN_OPTIONS": "detect_leaks=0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert "the IPU's branch agrees with the definition" in run.stdout


# Of the C library's functions those that codelets of PopLibs call on the device, as instructions or by ipu_vector_math
# (public sources of PopLibs 3.4).
ON_THE_DEVICE = {"expf", "fmaxf", "sqrtf", "tanhf"}


def test_codelets_call_no_function_that_an_ipu_may_not_have(compiler, tmp_path):
    """One such name anywhere in the codelets, and no graph with any of them can be linked."""
    lister = shutil.which("nm")
    if lister is None:
        pytest.skip("needs nm")
    room = build.ROOM
    places = [room / "host_poplar" / "include", room / "host_poplar" / "ipu_mock", room / "proxy_norm"]
    includes = [word for place in places for word in ("-I", str(place))]
    result = tmp_path / "codelets.o"
    command = [
        *compiler,
        "-std=c++17",
        "-O1",
        *DEVICE,
        *includes,
        "-c",
        str(room / "proxy_norm" / "codelets.cpp"),
    ]
    subprocess.run([*command, "-o", str(result)], check=True)
    listed = subprocess.run([lister, "-u", str(result)], stdout=subprocess.PIPE, text=True, check=True).stdout
    called = {line.split()[-1] for line in listed.splitlines()}
    assert {name for name in called if not name.startswith("_")} <= ON_THE_DEVICE
    assert not [name for name in called if name.startswith("_") and "poplar" not in name]
