"""Broken files and absurd values end in messages: the short form of ``scripts/fuzz_configurations.py``."""

import random
import sys
import time
from pathlib import Path

import pytest

from ipu_train import cli, config

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


@pytest.fixture(scope="module")
def broken():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import broken_configurations

        yield broken_configurations
    finally:
        sys.path.remove(str(SCRIPTS))


def outcome(text, path):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(config.ConfigError) as caught:
        config.load(path)
    return str(caught.value)


def test_fuzzed_files_load_or_are_refused_with_messages(broken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1)
    sources = [
        (config.builtin_folder() / "quickstart.yaml").read_text(),
        config.load("resnet50_gn_pn").dump(),
    ]
    refused = 0
    for _ in range(250):
        path = tmp_path / "run.yaml"
        path.write_bytes(broken.fuzzed(rng, sources))
        try:
            config.load(path)
        except config.ConfigError as error:
            refused += 1
            assert str(error)
    assert refused > 100
    assert not (tmp_path / broken.SENTINEL).exists()


def test_absurd_values_are_refused_without_torch(broken, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "ipu_train.early_checks.check_network", lambda resolved: pytest.fail("torch was needed")
    )
    for change in broken.absurd(80, 1):
        assert cli.main(["--config", "quickstart", *change]) == 2, change
        error = capsys.readouterr().err
        assert error.startswith("ipu-train: ") and "Traceback" not in error
        assert len(error) < 8_000 or len(" ".join(change)) > 2_000


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [" + ", ".join([f"*{chr(97 + i)}"] * 9) + "]\n" for i in range(9)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)}\n  <<: [" + ", ".join([f"*{chr(97 + i)}"] * 9) + "]\n" for i in range(9)
)


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, "holds more than 5000 values (with its aliases)"),
        (MERGED, "holds more than 5000 values (with its aliases)"),
        (BOMB + "model: {name: resnet20, options: {a: *j}}\n", "holds more than 5000 values"),
        ("a: " + "[" * 400, "run.yaml:1:23: nested deeper than 20 levels"),
        ("a: " + "{b: " * 400, "nested deeper than 20 levels"),
        ("- " * 400 + "a", "nested deeper than 20 levels"),
        ("x: 1\n" * 200_000, "bytes, more than any configuration"),
        ("#" * 150_000, "characters, more than any configuration"),
        ("a: " + "9" * 5000, "a number of 5000 digits is too long"),
        ("a: 0x" + "f" * 5000, "is too long"),
        ("a: !!python/object/apply:os.system ['touch code_was_run']", "is not understood here"),
        ("".join(f"k{i}: 1\n" for i in range(3000)), "and 101 more"),
    ],
)
def test_more_than_any_configuration_needs_is_refused_at_once(text, message, tmp_path):
    started = time.process_time()
    assert message in outcome(text, tmp_path / "run.yaml")
    assert time.process_time() - started < 5  # the bound that users are promised; a bomb takes hours
