"""``ipu-train export``: a trained model as a file for other programs."""

from pathlib import Path
from typing import List

from . import weights_options

_FORMATS = ("onnx", "torch_export", "torchscript", "state_dict")


def main(arguments: List[str]) -> int:
    """Write a trained model in another format and compare the two; gives the exit status 0.

    Raises:
        ExportError, UseError, CheckpointError, ConfigError: with a message for the user.
    """
    parser = weights_options.parser(
        "export",
        "Write a trained model for other programs: float32, any batch size, from prepared images to logits. What was\n"
        "written is run and compared with the network. Beside it, OUT.json says how an image must be prepared and\n"
        "what the classes are called. state_dict has torchvision's or timm's names where the network is theirs.",
    )
    parser.add_argument("--format", choices=_FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the file to write")
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (18; 17 with torch before 2.6)")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration"
    )
    options = parser.parse_intermixed_args(arguments)

    from ..export import exporting

    weights_options.check_writable("--out", options.out)
    exporting.check(options.format, options.out, options.opset)
    trained = weights_options.trained(options, options.overrides)
    exported = exporting.export(trained, options.format, options.out, options.opset)
    print(f"{exported.words}: {exported.path} ({exported.path.stat().st_size / 1e6:.1f} MB), {trained.words}")
    print(exported.comparison)
    print(f"preparation of images, classes: {exported.beside}")
    return 0
