"""``ipu-train predict``: the classes that a trained model sees in images."""

import argparse
import json
import os
from pathlib import Path
from typing import List

from .. import outputs
from ..inference.errors import UseError
from . import weights_options


def main(arguments: List[str]) -> int:
    """Predict the classes of image files and print them; gives the exit status 0.

    Raises:
        UseError: some images could not be read; the others have been predicted and written.
        OutputError, UseError, CheckpointError, ConfigError, DataError, DeviceError: with a message for the user.
    """
    parser = weights_options.parser(
        "predict",
        "Say what a trained model sees in images: classes and their probabilities. The images are prepared as the\n"
        "validation images of its run were; neither those nor the training images are needed. Files that are no\n"
        "readable images are named and left out; the exit status is 2 then.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE|FOLDER",
        help="image files, and folders of them; also section.key=value, changes to the run's configuration",
    )
    parser.add_argument("--top", type=_count, default=5, metavar="N", help="classes of each image (5)")
    weights_options.json_path(parser, "a list of image, class, label, probability and top")
    parser.add_argument(
        "--csv",
        type=outputs.place,
        metavar="PATH",
        help="write one line an image to this file as CSV (-: standard output)",
    )
    options = parser.parse_intermixed_args(arguments)

    overrides, words = weights_options.split_words(options.images)
    if not words:
        parser.error("name at least one image or a folder of images")
    for option in ("json", "csv"):
        outputs.check(f"--{option}", getattr(options, option), streams=True)
    for word in words:
        if not Path(os.path.expanduser(word)).exists():
            raise UseError(f"{word}: there is no such image or folder")
    asked = weights_options.asked(options, overrides)

    from .. import durable
    from ..data.faults import Faults
    from ..inference import files, prediction, program
    from ..inference.trained import take
    from ..tracking import table

    paths = files.files_in(words)
    trained = prediction.for_few(take(asked), len(paths))
    prepared, _ = program.prepared_of(trained)
    faults = Faults(len(paths), "skip", most=1.0)
    images = files.PreparedFiles(paths, prepared, faults=faults)
    compiled = program.compiled(trained, program.without_images(prepared), prepared)
    found = prediction.predict(compiled, images, options.top)
    if found:
        rows = [[one.image, *(f"{name} {share:.1%}" for _, name, share in one.classes)] for one in found]
        print(
            table(["image", "class", *[""] * (len(rows[0]) - 2)], rows),
            file=outputs.words(options.json, options.csv),
        )
    if options.json is not None:
        durable.write(options.json, json.dumps([one.to_json() for one in found], indent=1) + "\n")
    if options.csv is not None:
        durable.write(options.csv, prediction.as_csv(found))
    if faults.count:
        raise UseError(
            f"{faults.count} of {len(paths)} images could not be read (named above) and have no prediction"
        )
    return 0


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text}")
    return int(text)
