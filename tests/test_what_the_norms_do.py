"""The README says of the norms what the recorded trainings say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "what_the_norms_do.py"


def check():
    return subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)


def test_the_readmes_table_and_sentences_are_those_of_the_recorded_trainings():
    result = check()
    assert result.returncode == 0, result.stderr


def test_accuracies_are_means_and_sample_deviations_in_percent(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import what_the_norms_do as script

    def run(norm, size, *accuracies):
        return {(norm, size): [{"accuracy": a, "by_epoch": [{"train_loss": 1.0}]} for a in accuracies]}

    cells = {
        **run("batch", 64, 0.8, 0.82), **run("batch", 2, 0.7), **run("group", 64, 0.6), **run("group+pn", 64, 0.75),
    }  # fmt: skip
    assert script.accuracy(cells["batch", 64]) == "81.0 ± 1.4 (2)"
    said = script.sentences(cells)
    assert "Batch Norm loses 11.0 points when the micro-batch shrinks from 64 to 2" in said
    assert "Proxy Norm adds 15.0 points to Group Norm, 71 % of its distance to Batch Norm at 64" in said
    assert "6.0 points behind Batch Norm at 64 and 5.0 points ahead of it at 2" in said
    cells["group+pn", 64][0]["accuracy"] = 0.8102
    assert "is level with Batch Norm at 64 and 11.0 points ahead of it at 2" in script.sentences(cells)


def test_powers_are_means_over_norms_of_the_first_and_the_last_epoch(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import what_the_norms_do as script

    epochs = [
        {"epoch": 1, "layers": {"norm1": [0.1, 0.1, 0.7, 0.1], "norm2": [0.3, 0.1, 0.5, 0.1]}},
        {"epoch": 2, "layers": {"norm1": [9.0, 0.0, 0.0, 0.0], "norm2": [9.0, 0.0, 0.0, 0.0]}},
        {"epoch": 3, "layers": {"norm1": [0.4, 0.0, 0.6, 0.0], "norm2": [0.6, 0.0, 0.4, 0.0]}},
    ]
    without, some = {"accuracy": 0.5}, {"accuracy": 0.5, "powers": epochs}
    slow = "`optimizer.learning_rate=0.1`"
    powers = script.powers_by_norm(
        {("layer", 64): [without, some], ("batch", 64): [without]}, {("batch", 64, slow): [some]}
    )
    assert list(powers) == [("layer", ""), ("batch", slow)]
    assert script.table_of_powers(powers).splitlines()[2:] == [
        "| Layer Norm | 1 | 0.200 | 0.100 | 0.600 | 0.100 |",
        "| Layer Norm | 3 | 0.500 | 0.000 | 0.500 | 0.000 |",
        f"| Batch Norm with {slow} | 1 | 0.200 | 0.100 | 0.600 | 0.100 |",
        f"| Batch Norm with {slow} | 3 | 0.500 | 0.000 | 0.500 | 0.000 |",
    ]


def test_trainings_that_differ_in_one_thing_are_told_beside_those_of_all_norms(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import what_the_norms_do as script

    def cells(**accuracies):
        return {(norm, 64): [{"accuracy": value}] for norm, value in accuracies.items()}

    short = ("net", 16, 8, "none")
    groups = {
        ("net", 16, 2, "none"): cells(batch=0.1, layer=0.2),
        short: cells(batch=0.7, layer=0.6),
        ("net", 16, 30, "none"): cells(batch=0.81, layer=0.8),
        ("net", 16, 60, "none"): cells(batch=0.9),  # nothing to compare with
        ("net", 32, 30, "none"): cells(batch=0.3, layer=0.4),
        ("net", 16, 30, "light"): cells(batch=0.3, layer=0.4),
        ("net", 16, 8, "new"): cells(batch=0.5, layer=0.4),
        ("other", 16, 8, "none"): cells(batch=0.6, layer=0.5),
        ("other", 16, 30, "none"): cells(batch=0.9, layer=0.9),
    }
    assert script.others(short, groups).split("\n\n") == [
        "After 30 epochs, % (seeds): Batch Norm at 64: 81.0 (1); Layer Norm at 64: 80.0 (1).",
        "With new regularisation, the same for all, % (seeds): Batch Norm at 64: 50.0 (1); Layer Norm at 64: 40.0 (1).",
        "With other in place of net, % (seeds): Batch Norm at 64: 60.0 (1); Layer Norm at 64: 50.0 (1).",
    ]
    groups["net", 16, 30, "none"].update(
        {("layer+pn", 64): [{"accuracy": 0.82}], ("batch", 2): [{"accuracy": 0.7}]}
    )
    assert (
        script.others(short, groups)
        .split("\n\n")[0]
        .endswith(
            "(1). Layer Norm + Proxy Norm is 1.0 points ahead of Batch Norm at 64 and 12.0 points ahead of it at 2."
        )
    )
    assert len({script.powers_picture_of(key) for key in groups}) == len(groups)


def test_trainings_of_another_model_than_the_recipes_are_not_mixed_with_those_of_the_recipe(
    monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import what_the_norms_do as script

    for name, settings in (("usual", []), ("other", ["model.name=efficientnet_cifar_g16"])):
        run = {
            "norm": "batch", "micro_batch_size": 64, "recipe": "cifar10_resnet20v2_bn", "epochs": 8, "image_size": 16,
            "regularisation": "none", "settings": ["training.epochs=8", *settings],
        }  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    models = [key[0] for key in script.groups_of(script.recorded_runs(tmp_path))]
    assert sorted(models) == ["efficientnet_cifar_g16", "resnet20v2"]


def test_what_other_settings_make_of_a_norm_is_listed_apart_from_its_recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import recorded_trainings
    import what_the_norms_do as script

    def run(accuracy, *settings, **others):
        variant = {"variant": "slow"} if settings else {}
        return {
            "norm": "group", "micro_batch_size": 64, "model": "net", "epochs": 8, "image_size": 16,
            "regularisation": "none", "settings": ["training.epochs=8", *settings], "accuracy": accuracy,
            "by_epoch": [{"train_loss": 9.0}, {"train_loss": 1 - accuracy}], **variant, **others,
        }  # fmt: skip

    slow, wide = "optimizer.learning_rate=0.1", "model.norm_group_size=16"
    runs = [
        run(0.5), run(0.6, slow), run(0.8, slow), run(0.9, slow, wide), run(0.3, slow, image_size=32),
    ]  # fmt: skip
    ((key, cells), *_) = recorded_trainings.groups_of(runs).items()
    assert key == ("net", 16, 8, "none") and cells == {("group", 64): runs[:1]}
    variants = recorded_trainings.variants_of(key, runs)
    assert recorded_trainings.table_of_variants(variants).splitlines()[2:] == [
        f"| Group Norm | 64 | `{slow}` | 70.0 ± 14.1 (2) | 0.300 |",
        f"| Group Norm | 64 | `{slow}`, `{wide}` | 90.0 (1) | 0.100 |",
    ]
    assert script.said_of_variants(variants) == (
        f"With settings other than the recipes', % (seeds): Group Norm at 64 with `{slow}`: 70.0 ± 14.1 (2); "
        f"Group Norm at 64 with `{slow}`, `{wide}`: 90.0 (1)."
    )
    assert script.said_of_variants(recorded_trainings.variants_of(("net", 16, 30, "none"), runs)) == ""
