"""``ipu-train evaluate``: accuracy, loss, a table of classes and a confusion matrix of a trained model."""

import json
from pathlib import Path
from typing import List

from .. import outputs
from ..inference.errors import UseError
from . import weights_options


def main(arguments: List[str]) -> int:
    """Evaluate a model on images with labels and print what comes out; gives the exit status 0.

    Raises:
        OutputError, UseError, CheckpointError, ConfigError, DataError, DeviceError: with a message for the user.
    """
    parser = weights_options.parser(
        "evaluate",
        "Evaluate a trained model on the validation images of its run (or on other data), each image counted once,\n"
        "through the program that training validates with: on the run's own images it gives the run's own figures.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="all images of a folder with one sub-folder a class, in place of the run's validation images",
    )
    weights_options.json_path(parser, "accuracy, top5, loss, images, per_class and confusion")
    parser.add_argument(
        "--confusion",
        type=Path,
        metavar="PATH",
        help="draw the confusion matrix (.png, .svg, .pdf) or write it (.csv)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the run's configuration"
    )
    options = parser.parse_intermixed_args(arguments)

    outputs.check_picture(options.confusion, "--confusion", also=(".csv",))
    outputs.check("--json", options.json, streams=True)
    asked = weights_options.asked(options, options.overrides)
    if options.data is not None and not options.data.is_dir():
        what = "is no folder" if options.data.exists() else "there is no such folder"
        raise UseError(f"--data {options.data}: {what}; it takes one with a sub-folder a class")

    from .. import durable
    from ..inference import picture, program
    from ..inference.evaluation import evaluate
    from ..inference.files import labelled
    from ..inference.trained import take

    trained = take(asked)
    words = outputs.words(options.json)
    if options.data is None:
        source, prepared = program.validation_images(trained)
        images = source.validation
        what = f"{source.name}, validation images"
    else:
        prepared, _ = program.prepared_of(trained)
        source, images = program.without_images(prepared), labelled(options.data, prepared)
        what = str(options.data)
    compiled = program.compiled(trained, source, prepared)
    model = compiled.resolved.config.model
    print(
        f"{model.name}, {model.norm}{'+pn' if model.proxy_norm else ''}: {trained.words}, on {compiled.running_on}",
        file=words,
    )
    evaluation = evaluate(compiled, images)
    print(f"{what}: {evaluation.text()}", file=words)
    if options.json is not None:
        durable.write(options.json, json.dumps(evaluation.to_json(), indent=1) + "\n")
        print(f"figures  {options.json}", file=words)
    if options.confusion is not None:
        picture.write(evaluation, options.confusion, f"{model.name}, {what}")
        print(f"confusion matrix  {options.confusion}", file=words)
    return 0
