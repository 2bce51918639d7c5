"""`ipu-train models` through the command line."""

import pytest

from ipu_train.cli import main
from ipu_train.models import names, norm_names


def run(capsys, *arguments):
    status = main(["models", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_it_lists_every_model_and_norm(capsys):
    status, out, _ = run(capsys)
    assert status == 0
    first_words = {line.split()[0] for line in out.splitlines()}
    assert set(names()) | set(norm_names()) <= first_words


@pytest.mark.parametrize("name", ["own", "\U0001f600", "own #1"])
def test_a_file_s_network_is_shown_whatever_the_file_is_called(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    network = "from torch import nn\n\ndef net(num_classes, in_channels):\n    return nn.Conv2d(in_channels, 2, 1)\n"
    (tmp_path / f"{name}.py").write_text(network)
    status, out, error = run(capsys, "show", f"{name}.py:net")
    assert (status, error) == (0, "")
    assert "8 parameters" in out


def test_it_shows_layers_parameters_macs_and_the_sites_of_proxy_norm(capsys):
    status, out, _ = run(capsys, "show", "resnet50")
    assert status == 0
    # 25,557,032 is torchvision's count; Proxy Norm adds 2 [C] vectors at each of its 33 sites and drops the
    # shift of the 20 norms that feed an addition
    widths = [(64, 3, 256), (128, 4, 512), (256, 6, 1024), (512, 3, 2048)]
    extra = 2 * (64 + sum(2 * width * count for width, count, _ in widths))
    dropped = sum(out_width * (count + 1) for _, count, out_width in widths)
    assert f"{25_557_032 + extra - dropped:,} parameters" in out
    assert "4,089,184,256 MACs, Proxy Norm at 33 of" in out  # torchvision's table has 4.09 G
    row = next(line for line in out.splitlines() if line.startswith("layer4.0.conv2"))
    assert "conv 3x3/2" in row
    assert "512 x 7 x 7" in row


def test_settings_and_image_size_are_taken(capsys):
    status, out, _ = run(
        capsys, "show", "resnet8", "model.norm=layer", "model.options.width=0.5", "--image-size", "16"
    )
    assert status == 0
    assert "8 x 16 x 16" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["show", "resnt20"], 'did you mean "resnet20"?'),
        (
            ["show", "resnet20", "model.norm=grop"],
            'model.norm: no norm is called grop; did you mean "group"?',
        ),
        (["show", "resnet20", "model.nrom=group"], 'unknown key; did you mean "norm"?'),
        (["show", "resnet20", "model.norm=frn", "model.proxy_norm=true"], "has an activation of its own"),
        (
            ["show", "resnet20", "model.options.zero_init=no"],
            "model.options.zero_init: zero_init must be true or false; got 'no'",
        ),
        (
            ["show", "resnet20", "model.options.norm=batch"],
            "model.options.norm: norm is no option of the network: set model.norm",
        ),
        (["show", "resnet20", "model.options.in_channels=1"], "model.options.in_channels: in_channels is no"),
    ],
)
def test_what_does_not_exist_is_said_with_the_nearest_name(capsys, arguments, message):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["show", "resnet20", "training.epochs=3"], "training.epochs=3 is no setting of the model"),
        (["list", "resnet20"], "list takes no settings"),
        (["--image-size", "32"], "list takes no settings"),
        (["show", "resnet20", "model.num_classes=5", "--num-classes", "3"], "give one of them"),
    ],
)
def test_what_would_be_ignored_is_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(capsys, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["resnet20, norm: batch", "a: b", "[x", '"'])
def test_a_name_is_a_name_whatever_it_holds(capsys, name):
    status, _, err = run(capsys, "show", name)
    assert status == 2
    assert f"no model is called {name}" in err


def test_parameters_of_all_layers_add_up_for_every_norm(capsys):
    for norm in norm_names():
        _, out, _ = run(capsys, "show", "resnet8", f"model.norm={norm}")
        *rows, total = out.splitlines()
        column = rows[0].index("parameters") + len("parameters")
        layers = sum(int(row[:column].split()[-1].replace(",", "")) for row in rows[1:])
        assert f" {layers:,} parameters" in total, norm
