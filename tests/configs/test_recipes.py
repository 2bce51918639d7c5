"""Every recipe loads and can be built at full size; recipes with every setting in use train two steps on the emulator.

Those are chosen so that each word, flag and use of a number in any recipe is trained, and each norm with each kind of
network; with ``--long`` all recipes are trained.
"""

import functools
import json
import math
import re

import pytest

from ipu_train import config, planning, trainer
from ipu_train.models import native_image_size
from ipu_train.planning.tracing import network_without_values

RECIPES = config.builtin_names()
FOLDER = config.builtin_folder()
WITHOUT_WEIGHTS = ["model.weights=null", "model.averaged_weights=false", "model.new_classifier=false"]


@functools.lru_cache(maxsize=None)
def loaded(name):
    return config.load(name)


def text(name):
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def reduced(name):
    """Overrides that leave everything of a recipe but its widths, images and number of steps."""
    cfg = loaded(name).config
    resnet = "resne" in cfg.model.name
    small = cfg.model.name in ("resnet20", "resnet20v2", "resnet8")
    # batch norm needs more than a few values of a channel where the image is smallest
    side = 8 if small else 64 if cfg.model.norm == "batch" else 32
    stages = len(cfg.device.pipeline_splits) + 1
    accumulation = max(2, 2 * stages - 1)  # what a pipeline needs at least
    overrides = [
        "data.name=generated", "data.path=null", "data.workers=0", "data.num_classes=4", f"data.image_size={side}",
        "data.augment=none", f"data.length={2 * 2 * accumulation}", "training.epochs=1",
        "training.micro_batch_size=2", f"training.gradient_accumulation={accumulation}", "training.replicas=1",
        "validation.every_epochs=0", "validation.micro_batch_size=null", "schedule.warmup_epochs=0",
        f"model.options.width={0.5 if resnet else 0.25}", "logging.every_steps=1", "logging.progress=false",
        "logging.plots=false", "device.threads=1",
    ]  # fmt: skip
    if cfg.model.norm == "group" and resnet and not small:
        overrides.append("model.norm_groups=4")
    if cfg.model.norm_group_size:  # as many groups of half the width
        overrides.append(f"model.norm_group_size={cfg.model.norm_group_size // 2}")
    return overrides


def steps(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["split"] == "train"]


def leaves(section, prefix=""):
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def traits(name):
    """What of the program a recipe uses: its words and flags as they are, of numbers and lists only whether any."""
    cfg = loaded(name).config
    kind = re.sub(r"\d+", "", cfg.model.name)
    found = {("network", (kind, cfg.model.norm, cfg.model.proxy_norm))}
    for key, value in leaves(cfg.model_dump()):
        # which `reduced` sets, or the trait above names
        if key not in ("name", "run_dir", "model.name") and not key.startswith(
            ("data.", "logging.", "wandb.")
        ):
            found.add((key, value if isinstance(value, (str, bool)) else bool(value)))
    return found


def covering():
    """Few recipes that together have every trait: always the one with the most new ones, the smallest of equals."""
    of = {name: traits(name) for name in RECIPES}
    size = {name: int(re.search(r"\d+", loaded(name).config.model.name).group()) for name in RECIPES}
    missing, chosen = set().union(*of.values()), []
    while missing:
        chosen.append(min(RECIPES, key=lambda name: (-len(of[name] & missing), size[name], name)))
        missing -= of[chosen[-1]]
    return chosen


COVERING = covering()
OTHERS = [pytest.param(name, marks=pytest.mark.long) for name in RECIPES if name not in COVERING]


@pytest.mark.parametrize("name", [*COVERING, *OTHERS])
def test_it_trains_two_steps_on_the_emulator(name, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_plan", lambda *_: None)  # which takes longer than the two steps
    monkeypatch.setattr(trainer, "_write_plan", lambda *_: None)
    overrides = [*reduced(name), *WITHOUT_WEIGHTS, f"run_dir={tmp_path / 'run'}"]
    outcome = trainer.train(config.load(name, overrides))
    assert outcome.status == 0
    found = steps(tmp_path / "run")
    assert [record["step"] for record in found] == [1, 2]
    assert all(math.isfinite(record["loss"]) for record in found)


_MODULES = {}  # of each network; recipes for other numbers of IPUs have the same


def modules_of(model, resolved):
    if model not in _MODULES:
        network = network_without_values(resolved, planning.Images(3, 224, 1000))
        _MODULES[model] = [module for module, _ in network.named_modules()]
    return _MODULES[model]


@pytest.mark.parametrize("name", RECIPES)
def test_its_network_and_pipeline_exist_at_full_size(name):
    resolved = loaded(name)
    modules = modules_of(resolved.config.model.model_dump_json(), resolved)
    splits = resolved.config.device.pipeline_splits
    assert [split for split in splits if split not in modules] == []
    assert [modules.index(split) for split in splits] == sorted(modules.index(split) for split in splits)


@pytest.mark.parametrize("name", RECIPES)
def test_it_opens_with_what_it_is_where_it_comes_from_and_the_command(name):
    head = re.match(r"(?:#.*\n)+", text(name)).group()
    assert re.search(rf"^# Command: ipu-train --config {name}$", head, re.MULTILINE)
    assert re.search(r"^# (Source|Hyper-parameters)", head, re.MULTILINE)
    assert max(len(line) for line in text(name).splitlines()) <= 120


def test_the_table_lists_every_recipe():
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(rows) == RECIPES
    for name in RECIPES:
        assert f"`ipu-train --config {name}`" in table


def test_image_sizes_are_the_models_own_or_about_half_their_pixels():
    for name in RECIPES:
        cfg = loaded(name).config
        if cfg.data.name == "imagefolder":
            native = native_image_size(cfg.model.name)
            if "_half" in name and "finetune" not in name:
                assert 0.4 <= (cfg.data.image_size / native) ** 2 <= 0.6, name
            else:
                assert cfg.data.image_size == native, name


def test_global_batches_of_one_family_agree():
    """Devices of other sizes run the same training: the global batch does not move with the number of IPUs."""
    for name in RECIPES:
        match = re.match(r"(.+)_pod\d+$", name)
        if match and match.group(1) in RECIPES:
            one, other = (loaded(n).config for n in (name, match.group(1)))
            assert one.global_batch_size == other.global_batch_size
            assert (one.optimizer, one.schedule, one.model) == (other.optimizer, other.schedule, other.model)
            ipus = int(name.rpartition("_pod")[2])
            assert one.ipus_per_replica * one.training.replicas == ipus


def test_resnet50_v2_trains_under_one_protocol_with_every_norm():
    of_all = [loaded(f"resnet50v2_{name}").config for name in ("bn", "gn", "gn_pn", "ln_pn")]
    assert [(c.model.norm, c.model.proxy_norm) for c in of_all] == [
        ("batch", False), ("group", False), ("group", True), ("layer", True),
    ]  # fmt: skip
    for section in ("data", "optimizer", "schedule", "training", "validation", "device"):
        assert len({getattr(c, section).model_dump_json() for c in of_all}) == 1, section


def fills_its_pipeline(cfg):
    """PopTorch's rule: at least as many micro-batches as there are forward and backward stages."""
    stages = len(cfg.device.pipeline_splits) + 1
    return stages == 1 or cfg.training.gradient_accumulation >= 2 * stages - 1


@pytest.mark.parametrize("name", RECIPES)
def test_its_micro_batches_fill_its_pipeline(name):
    assert fills_its_pipeline(loaded(name).config)


def test_other_sizes_in_the_comments_run_and_train_the_same_global_batch():
    found = 0
    for name in RECIPES:
        head = re.sub(r"\n#   ", " ", re.match(r"(?:#.*\n)+", text(name)).group())
        comment = re.search(r"^# Other sizes: (.*)$", head, re.MULTILINE)
        cfg = loaded(name).config
        if comment is None:  # as the table's introduction says
            assert (
                cfg.data.name != "imagefolder" or cfg.model.norm == "batch" or re.search(r"_pod\d+$", name)
            ), name
            continue
        _, *parts = re.split(r"POD(\d+):", comment.group(1))
        for ipus, words in zip(parts[::2], parts[1::2]):
            other = config.load(name, re.findall(r"training\.\w+=\d+", words)).config
            assert other.ipus_per_replica * other.training.replicas == int(ipus), (name, ipus)
            assert other.global_batch_size == cfg.global_batch_size, (name, ipus)
            assert fills_its_pipeline(other), (name, ipus)
            found += 1
    assert found > 30


def test_fine_tuning_sees_images_as_validation_does():
    """Masters et al. 2021, section 3.3: validation preprocessing, at the test size."""
    tuned = [loaded(name).config.data.augment for name in RECIPES if name.endswith("_finetune")]
    assert tuned == ["centre_crop"]


def test_fine_tuning_starts_from_the_training_at_half_resolution(tmp_path):
    first, second = "efficientnet_b0_g16_ln_pn_half", "efficientnet_b0_g16_ln_pn_half_finetune"
    trainer.train(config.load(first, [*reduced(first), f"run_dir={tmp_path / 'half'}"]))
    fine = [*reduced(second), f"model.weights={tmp_path / 'half'}", "data.image_size=48"]
    assert trainer.train(config.load(second, [*fine, f"run_dir={tmp_path / 'fine'}"])).status == 0


@pytest.mark.parametrize(
    "name", ["resnet50_gn_pn", "efficientnet_b0_g16_ln_pn", "efficientnet_b4_g16_ln_pn_half"]
)
def test_it_fits_on_the_ipus_that_it_is_for(name):
    resolved = loaded(name)
    report = planning.predict(resolved, planning.Images(3, resolved.config.data.image_size, 1000))
    assert report.fits
    # and the table says how fast it is predicted to be there (scripts/recipe_throughput.py writes it)
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    predicted = re.search(rf"^\| `{name}` \|.* epochs; ([\d,]+) \|", table, re.MULTILINE).group(1)
    speed = report.to_json()["images_per_second"]
    assert int(predicted.replace(",", "")) == pytest.approx(speed, rel=0.02)
