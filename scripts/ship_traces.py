"""Make the traces that come with the package, those of every recipe's network (``ipu_train/planning/shipped``).

    python scripts/ship_traces.py [--check]

Run it when a test says so, and before a release: shipped traces are used only where the sources mean what they meant
when this was run. A version of torch is added to those that the traces hold for where it gives the same ones. With
``--check`` nothing is written: it says what has changed, and its exit status is 1 where something has.
"""

import argparse
import json
import sys
import zipfile
from pathlib import Path

from tqdm import tqdm

from ipu_train import config, configs, planning
from ipu_train.device_options import fused_on_ipus
from ipu_train.ipumodel.rescale import at_batch
from ipu_train.planning import shipped, tracing
from ipu_train.planning.shipped import packing
from ipu_train.planning.traces import key_of_network

SIZES = (2, 4, 1)  # two give all above 1; a batch of 1 is traced, as torch may take other routes there
_DATE = (1980, 1, 1, 0, 0, 0)  # equal traces make equal files


def networks():
    """(key, configuration, images) of each network that a recipe trains."""
    found = {}
    for path in sorted(Path(configs.__path__[0]).glob("*.yaml")):
        # mixing images of a micro-batch needs two of them; no trace depends on it
        resolved = config.load(path.stem, ["training.mixup_alpha=0", "training.cutmix_lambda=1"])
        if fused_on_ipus(resolved.config):
            sys.exit("Run it where the fused operator is not built: its networks are not shipped.")
        images = planning.images_of(resolved)
        found.setdefault(key_of_network(resolved, images), (resolved, images))
    return [(key, *rest) for key, rest in found.items()]


def packed(resolved, images):
    """What is shipped of one network."""
    programs = [
        tracing.traced(resolved.changed([f"training.micro_batch_size={size}"]), images) for size in SIZES
    ]
    if at_batch(programs[0], programs[1], 3) is None:
        raise ValueError(f"{resolved.name}: its traces do not give those of other micro-batch sizes")
    return {
        "independent": tracing.is_batch_independent(resolved, images),
        "programs": packing.pack(programs),
    }


def made():
    """model -> key -> what is shipped of that network."""
    found = {}
    for key, resolved, images in tqdm(networks(), disable=not sys.stderr.isatty()):
        found.setdefault(resolved.config.model.name, {})[key] = packed(resolved, images)
    return found


def known():
    """The same, as it is in the package; empty where nothing is."""
    try:
        with zipfile.ZipFile(shipped.FOLDER / shipped.TRACES) as file:
            names = file.namelist()
        return {Path(name).stem: shipped.entries(Path(name).stem) for name in names}
    except FileNotFoundError:
        return {}


def versions(same):
    """The versions of torch whose traces these are: this one, and with the same traces of the same sources the known
    ones."""
    before = shipped.made_from() if same else {"torch": []}
    as_before = same and before["meaning"] == shipped.stamp()["meaning"]
    return sorted({shipped.torch_version(), *(before["torch"] if as_before else [])}, key=_number)


def _number(version):
    return [int(part) for part in version.split(".")]


def write(found):
    with zipfile.ZipFile(shipped.FOLDER / shipped.TRACES, "w", zipfile.ZIP_LZMA) as file:
        for model in sorted(found):
            text = json.dumps(found[model], separators=(",", ":"))
            file.writestr(zipfile.ZipInfo(shipped.entry_of(model), _DATE), text, zipfile.ZIP_LZMA)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what has changed")
    options = parser.parse_args()
    found, before = made(), known()
    keys = {(model, key) for of in (found, before) for model, networks in of.items() for key in networks}
    other = [k for k in sorted(keys) if found.get(k[0], {}).get(k[1]) != before.get(k[0], {}).get(k[1])]
    record = {**shipped.stamp(), "torch": versions(not other)}
    for model, key in other:
        print(f"{model}: {key}"[:100] + " ... is not as it was")
    outdated = bool(other) or not before or record != shipped.made_from()
    print(f"{len(keys)} networks, {len(other)} of them changed; the record of their sources "
          f"{'has changed' if outdated else 'is up to date'}")  # fmt: skip
    if options.check:
        return int(outdated)
    if other:
        write(found)
    (shipped.FOLDER / shipped.MADE_FROM).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
