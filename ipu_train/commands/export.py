"""``ipu-train export``: a trained model as a file for other programs."""

from pathlib import Path
from typing import List

from .. import outputs
from ..export.errors import ExportError
from ..export.names import PROGRAMS, STATE_DICT, STATE_DICT_SUFFIXES, beside
from ..training.checkpoint_folder import STATE
from . import weights_options


def main(arguments: List[str]) -> int:
    """Write a trained model in another format and compare the two; gives the exit status 0.

    Raises:
        OutputError, ExportError, UseError, CheckpointError, ConfigError: with a message for the user.
    """
    parser = weights_options.parser(
        "export",
        "Write a trained model for other programs: float32, any batch size, from prepared images to logits. A program\n"
        "is run and compared with the network. Beside it, OUT.json says how an image must be prepared and\n"
        "what the classes are called. state_dict has torchvision's or timm's names where the network is theirs.",
    )
    parser.add_argument("--format", choices=(*PROGRAMS, STATE_DICT), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the file to write")
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (18; 17 with torch before 2.6)")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration"
    )
    options = parser.parse_intermixed_args(arguments)

    is_state_dict = options.format == STATE_DICT
    outputs.check("--out", options.out, STATE_DICT_SUFFIXES if is_state_dict else ())
    if options.opset is not None and options.format != "onnx":
        raise ExportError("--opset is for --format onnx")
    if (options.out.parent / STATE).is_file():  # a checkpoint's own weights must not be lost
        raise ExportError(f"--out {options.out}: is inside a checkpoint; choose another file")
    outputs.check("--out", beside(options.out))
    asked = weights_options.asked(options, options.overrides)

    from ..export import exporting
    from ..inference.trained import take

    exporting.check(options.format, options.out, options.opset)
    trained = take(asked)
    exported = exporting.export(trained, options.format, options.out, options.opset)
    print(f"{exported.words}: {exported.path} ({exported.path.stat().st_size / 1e6:.1f} MB), {trained.words}")
    print(exported.comparison)
    print(f"preparation of images, classes: {exported.beside}")
    return 0
