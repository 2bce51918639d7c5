"""Building on first use: the cache, several processes at once, and machines without a compiler."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy
import pytest

from ipu_train.kernels import build, cpu
from ipu_train.kernels.settings import Settings
from tests.kernels import reference

HERE = Path(__file__).resolve().parent


@pytest.fixture
def has_compiler():
    try:
        build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IPU_TRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "answer.hpp").write_text("inline int answer() { return 42; }\n")
    path = folder / "answer.cpp"
    path.write_text('#include "answer.hpp"\nextern "C" int ask() { return answer(); }\n')
    return path


def test_plans_that_are_not_kept_do_not_move_the_libraries(monkeypatch):
    monkeypatch.delenv("IPU_TRAIN_CACHE", raising=False)
    usual = build.cache_folder()
    monkeypatch.setenv("IPU_TRAIN_CACHE", "off")
    assert build.cache_folder() == usual and usual.is_absolute()


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_library_is_built_once_and_again_when_a_header_or_a_flag_changes(has_compiler, cache, source):
    first = build.shared_library("answer", [source], [], ["-O1"])
    assert build.load(first).ask() == 42
    stamp = first.stat().st_mtime_ns
    assert build.shared_library("answer", [source], [], ["-O1"]) == first
    assert first.stat().st_mtime_ns == stamp
    assert build.shared_library("answer", [source], [], ["-O0"]) != first
    (source.parent / "answer.hpp").write_text("inline int answer() { return 43; }\n")
    second = build.shared_library("answer", [source], [], ["-O1"])
    assert second != first and build.load(second).ask() == 43
    assert not list(cache.glob("*.part"))


def test_a_library_is_built_again_when_a_source_that_another_includes_changes(has_compiler, cache, source):
    source.with_name("included.cpp").write_text("inline int answer() { return 1; }\n")
    source.write_text('#include "included.cpp"\nextern "C" int ask() { return answer(); }\n')
    first = build.shared_library("answer", [source], [], ["-O1"])
    assert build.load(first).ask() == 1
    source.with_name("included.cpp").write_text("inline int answer() { return 2; }\n")
    assert build.load(build.shared_library("answer", [source], [], ["-O1"])).ask() == 2


@pytest.mark.parametrize(
    "changed, target, rebuilt",
    [
        ("proxy_norm/codelets.cpp", "host", "host_poplar/vertices.cpp"),
        ("proxy_norm/passes.hpp", "host", "proxy_norm/graph.cpp"),
        ("cpu_kernel/proxy_norm_cpu.cpp", "sanitize", "host_poplar/driver/sanitize.cpp"),
        ("proxy_norm/sweep.hpp", "host", "host_poplar/vertices.cpp"),
    ],
)
def test_make_knows_which_sources_include_others(tmp_path, changed, target, rebuilt):
    if not shutil.which("make"):
        pytest.skip("make is not installed")

    def make(*options):
        command = ["make", "-C", str(build.ROOM), f"BUILD={tmp_path}", *options, target]
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )

    for folder in ("proxy_norm", "host_poplar/src", "host_poplar/driver"):
        (tmp_path / target / folder).mkdir(parents=True)
    make("--touch")  # as if everything were built
    assert rebuilt not in make("--dry-run").stdout
    assert rebuilt in make("--dry-run", f"--what-if={changed}").stdout


def test_several_processes_may_build_at_once(has_compiler, cache, source):
    code = f"""
        from pathlib import Path
        from ipu_train.kernels import build
        print(build.load(build.shared_library("answer", [Path({str(source)!r})], [], ["-O1"])).ask())
    """
    runs = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [run.communicate()[0].strip() for run in runs] == [b"42"] * 3
    assert len(list(cache.glob("answer-*"))) == 1


def test_a_failed_compilation_names_the_error(has_compiler, cache, source):
    source.write_text('extern "C" int ask() { return nothing_of_this_name; }\n')
    with pytest.raises(build.BuildError, match="nothing_of_this_name"):
        build.shared_library("answer", [source], [], [])
    assert not list(cache.glob("answer-*"))


def test_a_cache_that_cannot_be_written_is_replaced_by_a_private_one(
    has_compiler, tmp_path, source, monkeypatch
):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("IPU_TRAIN_CACHE", str(in_the_way))
    library = build.shared_library("answer", [source], [], ["-O1"])
    assert build.load(library).ask() == 42


def test_a_library_in_a_cache_that_cannot_be_written_is_used(has_compiler, cache, source, monkeypatch):
    """As in a container whose image was built with it, for another user."""
    library = build.shared_library("answer", [source], [], ["-O1"])
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **options: mode != os.W_OK and access(path, mode, **options)
    )
    assert build.shared_library("answer", [source], [], ["-O1"]) == library
    assert build.shared_library("answer", [source], [], ["-O0"]).parent != library.parent


def test_an_unknown_processor_flag_is_dropped(has_compiler, cache, source, tmp_path, monkeypatch):
    """As clang on some processors does not know -march=native."""
    picky = tmp_path / "picky"
    command = " ".join(build.compiler())
    picky.write_text(f'#!/bin/sh\ncase "$*" in *-march=native*) exit 1;; esac\nexec {command} "$@"\n')
    picky.chmod(0o755)
    monkeypatch.setenv("CXX", str(picky))
    library = build.shared_library("answer", [source], [], ["-O1", "-march=native"])
    assert build.load(library).ask() == 42


def test_without_a_compiler_the_composition_serves_and_the_reason_is_given_once(tmp_path):
    run = python(
        """
        import torch
        from ipu_train.kernels import composed, cpu
        from ipu_train.kernels.settings import Settings
        usable, reason = cpu.available()
        assert not usable
        print(reason)
        x, vectors = torch.randn(2, 4, 3, 3), [torch.full((4,), v) for v in (0.0, 1.0, 0.0, 0.0)]
        for _ in range(2):
            y = cpu.norm_proxy_norm_act(x, *vectors, Settings(2))
        assert torch.equal(y, composed.norm_proxy_norm_act(x, *vectors, Settings(2)))
        """,
        CXX="no-such-compiler",
        IPU_TRAIN_CACHE=str(tmp_path),
    )
    assert run.returncode == 0, run.stderr
    assert "no C++ compiler found (looked for no-such-compiler)" in run.stdout
    assert run.stderr.count("slower and with more memory: no C++ compiler") == 1


@pytest.mark.parametrize("command", ['g++ "-O1', "./no_program"])
def test_a_compiler_that_cannot_be_run_is_a_reason_and_no_error_of_its_own(
    cache, tmp_path, source, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    Path("no_program").write_text("neither a script nor a program\n")
    Path("no_program").chmod(0o755)
    monkeypatch.setenv("CXX", command)
    with pytest.raises(build.BuildError, match="CXX"):
        build.shared_library("answer", [source], [], ["-O1"])


def test_a_disk_without_room_is_a_reason_too(has_compiler, cache, source, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(build.BuildError, match="No space left.*IPU_TRAIN_CACHE"):
        build.shared_library("answer", [source], [], ["-O1"])


def test_a_lock_that_is_another_users_keeps_nobody_from_building(has_compiler, cache, source):
    (cache / "answer.lock").mkdir(parents=True)  # cannot be opened to write, not even by root
    assert build.load(build.shared_library("answer", [source], [], ["-O1"])).ask() == 42


@pytest.mark.parametrize("flags", [[], ["-march=native"]], ids=["any processor", "this processor"])
def test_half_is_converted_as_ieee_754_says(has_compiler, flags):
    """All 65,536 halves to float, and floats to half at, around and between all of them, against numpy."""
    folders = [build.ROOM / "cpu_kernel"]
    library = build.load(
        build.shared_library("half", [HERE / "half_conversion.cpp"], folders, ["-O1", *flags])
    )
    halves = numpy.arange(65536, dtype=numpy.uint16)
    floats = halves.view(numpy.float16).astype(numpy.float32)
    with numpy.errstate(all="ignore"):
        middles = (floats[:-1] + floats[1:]) / 2
        candidates = [floats, middles, numpy.nextafter(middles, 1e9), numpy.nextafter(middles, -1e9)]
        candidates += [numpy.float32([1e-8, -1e-8, 65519.996, 65520.0, 1e30, -1e30, 2.0**-25, 3e-8])]
        values = numpy.concatenate(candidates).astype(numpy.float32)
        values = numpy.resize(values, -(-len(values) // 16) * 16)
        expected = values.astype(numpy.float16)

    def call(name, source, target):
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
        function(source.ctypes.data, target.ctypes.data, len(source))
        return target

    for suffix in ("", "_by_vectors"):
        numpy.testing.assert_array_equal(
            call("to_float" + suffix, halves, numpy.empty(65536, numpy.float32)), floats
        )
        found = call("to_half" + suffix, values, numpy.empty(len(values), numpy.uint16)).view(numpy.float16)
        numpy.testing.assert_array_equal(found, expected)


def test_the_kernel_is_the_same_without_this_processors_instructions(has_compiler, monkeypatch):
    import torch

    monkeypatch.setattr(build, "CPU_FLAGS", ("-O1",))
    for cached in (cpu._library, cpu._library_or_none, cpu._plan):
        cached.cache_clear()
    try:
        for dtype, tolerance in ((torch.float32, 2e-5), (torch.float16, 6e-3)):
            x, parameters, grad = reference.problem((2, 8, 5, 5), dtype)
            actual = reference.gradients(
                lambda x, *p: cpu.norm_proxy_norm_act(x, *p, Settings(2, "silu")), x, parameters, grad
            )
            expected = reference.truth(x, parameters, grad, 2, activation="silu")
            assert all(reference.error(a, e) < tolerance for a, e in zip(actual, expected))
    finally:
        for cached in (cpu._library, cpu._library_or_none, cpu._plan):
            cached.cache_clear()
