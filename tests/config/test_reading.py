"""YAML as people write it, and the messages they get back."""

import math

import pytest

from ipu_train.config import ConfigError, load, load_text, quoted, text_override
from ipu_train.config.overrides import parse_override
from ipu_train.config.reader import parse

MINIMAL = "model: {name: resnet20}\ndata: {name: digits}\n"


def write(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def failure(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("50_000", 50000),
        ("010", 10),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("off", "off"),
        ("no", "no"),
        ("none", "none"),
        ("null", None),
        ("~", None),
        ("16.16", 16.16),
        ("1:30", "1:30"),
        ("2021-06-07", "2021-06-07"),
        ("'1'", "1"),
        (".inf", math.inf),
        ("1e", "1e"),
        ("_1", "_1"),
        ("[1, a, [null]]", [1, "a", [None]]),
    ],
)
def test_a_scalar_means_what_is_written(text, value):
    read, _, problems = parse(text, "x")
    assert not problems
    assert read == value and type(read) is type(value)


TEXTS = """plain/a.pth|run #1|a: b|[x].pth|{x}|null|~|2024|true| ends |'q'|"q"|back\\slash|*a|&a|!a|-|a\tb|a
b|\u00e9|\U0001f600|\udcff|\x7f|\u2028|\x85|"""


@pytest.mark.parametrize("text", TEXTS.split("|"))
def test_a_text_of_any_characters_can_be_written_so_that_it_is_read_again(text):
    assert parse_override(text_override("model.weights", text)).value == text
    assert parse(quoted(text), "x")[0] == text
    assert text_override("model.weights", "runs/a-b.pth") == "model.weights=runs/a-b.pth"


def test_every_key_knows_its_line():
    _, lines, _ = parse("a:\n  b: 1\n\n  c: {d: 2,\n    e: 3}\n", "x")
    assert lines == {"a": 1, "a.b": 2, "a.c": 4, "a.c.d": 4, "a.c.e": 5}


def test_merge_keys_give_way_to_the_keys_written_beside_them():
    value, _, problems = parse("a: &base {x: 1, y: 2}\nb:\n  <<: *base\n  y: 3\n", "x")
    assert not problems
    assert value["b"] == {"x": 1, "y": 3}


def test_keys_given_twice_are_refused_with_both_lines(tmp_path):
    path = write(tmp_path, MINIMAL + "training:\n  epochs: 1\n  seed: 0\n  epochs: 2\n")
    assert failure(path) == f"{path}:6: training.epochs: given twice; the first time in line 4"


def test_an_alias_of_itself_is_refused(tmp_path):
    assert "contains itself" in failure(write(tmp_path, "model: &m\n  options: *m\n"))


def test_tags_are_refused(tmp_path):
    path = write(tmp_path, MINIMAL + "run_dir: !!python/name:os.system x\n")
    assert f"{path}:3: run_dir" in failure(path) and "not understood" in failure(path)


@pytest.mark.parametrize(
    "text, where",
    [
        ("model:\n  name: resnet20\n\tnorm: group\n", ":3:1: not valid YAML"),
        ("model: {name: resnet20\ndata: {name: digits}\n", ":2:"),
        ("model:\n  name: [a, b\n", "not valid YAML"),
        ("model: a: b\n", ":1:9: not valid YAML: mapping values are not allowed"),
        ("a: 1\n---\nb: 1\n", "not valid YAML: but found another document"),
        ("a: \x00\n", "is not allowed in YAML"),
    ],
)
def test_broken_yaml_gives_line_and_column(tmp_path, text, where):
    path = write(tmp_path, text)
    message = failure(path)
    assert message.startswith(str(path)) and where in message
    assert "\n" not in message


def test_a_tab_is_named(tmp_path):
    assert "spaces, and this line has a tab" in failure(write(tmp_path, "model:\n\tname: x\n"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n", "holds a list"),
        ("hello\n", "holds a single value"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_files_that_hold_no_configuration(tmp_path, text, message):
    path = write(tmp_path, text)
    assert message in failure(path) and str(path) in failure(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    assert load(write(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode())).config.model.name == "resnet20"


def test_a_folder_is_no_file_but_may_hold_one(tmp_path):
    write(tmp_path, MINIMAL, "config.yaml")
    assert f"did you mean {tmp_path / 'config.yaml'}" in failure(tmp_path)


def test_a_missing_file_names_its_neighbour(tmp_path):
    write(tmp_path, MINIMAL, "resnet.yaml")
    assert 'no such file; did you mean "resnet.yaml"?' in failure(tmp_path / "resent.yaml")
    assert "the folder" in failure(tmp_path / "nowhere" / "x.yaml")


def test_an_unreadable_file_says_so(tmp_path, monkeypatch):
    path = write(tmp_path, MINIMAL)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    assert failure(path) == f"{path}: cannot be read: Permission denied"


def test_bare_names_are_recipes_of_the_package(tmp_path, monkeypatch):
    write(tmp_path, MINIMAL, "quickstart.yaml")
    monkeypatch.setattr("ipu_train.config.files.builtin_folder", lambda: tmp_path)
    monkeypatch.chdir("/")
    assert load("quickstart").name == "quickstart"
    assert load("quickstart.yaml").source == tmp_path / "quickstart.yaml"
    assert 'did you mean "quickstart"? (recipes: quickstart)' in failure("quikstart")


def test_an_empty_section_is_all_defaults(tmp_path):
    resolved = load_text(MINIMAL + "training:\n", tmp_path / "x.yaml")
    assert resolved.config.training.gradient_accumulation == 1
