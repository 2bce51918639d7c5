"""The command line: one clear message and exit status 2 for bad input, and quick answers."""

import os
import subprocess
import sys

import pytest

from ipu_train import cli


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--config", "quickstrat"], 'did you mean "quickstart"'),
        (["--config", "quickstart", "model.nmae=x"], 'did you mean "name"'),
        (["--config", "quickstart", "training.epochs=none"], "training.epochs"),
        (["--config", "quickstart", "extra"], "section.key=value"),
        (["--config", "quickstart", "model.name=resnet9"], 'did you mean "resnet8"'),
        (["--config", "quickstart", "model.norm_groups=5"], "cannot split 16 channels into 5 groups"),
        (
            ["--config", "quickstart", "data.name=imagefolder", "data.path=nowhere", "data.image_size=8"],
            "nowhere: there is no such folder",
        ),
        (["--config", "quickstart", "run_dir=nothing_here", "--resume"], "Nothing to resume"),
        (["frobnicate"], "unknown command 'frobnicate'"),
        (["config", "--config", "nothing_here.yaml"], "no such file"),
    ],
)
def test_bad_input_is_one_message_and_status_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith("ipu-train: ")
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    "line, advice",
    [
        ("", "ipu-train --config quickstart"),
        ("quickstart training.epochs=1", "ipu-train --config quickstart training.epochs=1"),
        ("my.yaml", "ipu-train --config my.yaml"),
        ("evalute --run runs/mine", "did you mean: ipu-train evaluate --run runs/mine"),
        ("--confg quickstart", "did you mean --config?"),
        ("plan quickstart", "Did you mean --config quickstart?"),
        ("plan my.yaml", "Did you mean --config my.yaml?"),
        ("tune --config quickstart --ipu 2", "did you mean --ipus?"),
        ("--config quickstart --training.micro-batch-size 3", "before it: training.micro_batch_size=3"),
        ("--config quickstart --training.epochs=3", "before it: training.epochs=3"),
        ("data check", "`ipu-train data check --help`"),
    ],
)
def test_a_line_that_is_written_wrongly_is_told_how_to_be_written(capsys, line, advice):
    try:
        status = cli.main(line.split())
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert advice in capsys.readouterr().err


def test_resume_is_told_where_its_folder_belongs(capsys, tmp_path):
    for line in ([], ["--config", "quickstart"]):
        with pytest.raises(SystemExit):
            cli.main([*line, "--resume", str(tmp_path)])
        assert f"ipu-train --config {tmp_path}/config.yaml --resume" in capsys.readouterr().err


def test_an_unwritable_run_folder_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["--config", "quickstart", f"run_dir={tmp_path / 'file' / 'run'}"]) == 2
    assert "is a file, so no folder can be made in it" in capsys.readouterr().err


def test_config_prints_every_value_with_its_origin(capsys):
    assert cli.main(["config", "--config", "quickstart", "training.epochs=3"]) == 0
    out = capsys.readouterr().out
    assert any("epochs: 3" in line and "override" in line for line in out.splitlines())
    assert any("micro_batch_size: 8" in line and "quickstart.yaml:" in line for line in out.splitlines())


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(arguments):
        raise ValueError("a programming error")

    monkeypatch.setattr("ipu_train.commands.config.main", broken)
    with pytest.raises(ValueError, match="programming error"):
        cli.main(["config"])


def test_names_that_the_output_cannot_show_are_escaped():
    """A dog in Japanese on a Latin-1 terminal, and a name that is no UTF-8."""
    code = (
        "from ipu_train import cli; cli._run = lambda *a: print('\\u72ac \\udce9') or 0; cli.main(['config'])"
    )
    for encoding in ("latin-1", "utf-8"):
        said = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        ).stdout
        assert said.decode(encoding).rstrip() == ("犬" if encoding == "utf-8" else "\\u72ac") + " \\udce9"


def test_help_needs_no_heavy_import():
    code = (
        "import sys; from ipu_train.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'sklearn', 'matplotlib', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
