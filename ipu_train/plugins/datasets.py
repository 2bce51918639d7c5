"""Data sets of the user's own.

A data set is opened by a function::

    def open(image_size: int, seed: int, **options) -> DataSource or (training images, validation images): ...

Images come as a ``DataSource``, or as two map-style data sets (anything with a length and items) whose items are
(image, label): the image a uint8 tensor or array ``[C, H, W]``, an array ``[H, W, C]`` or a Pillow image, of
``image_size`` x ``image_size`` pixels; the label an int from 0. Images are looked up in an order of ipu-train's, so
items must not depend on the order or the number of times they are asked for; what is random follows from ``seed``.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ..models import RegistrationError


class OwnDataset(NamedTuple):
    """One registered data set; the shape is declared so that a run can be planned without opening it.

    Attributes:
        open: see above.
        num_classes, channels, image_size: of the images; the size is the side in pixels.
        class_names: by label; None: "0", "1", ...
        mean, std: of each channel in 0..1 for the normalisation; None: 0.5 and 0.25.
    """

    open: Callable[..., Any]
    num_classes: int
    channels: int
    image_size: int
    class_names: Optional[List[str]] = None
    mean: Optional[List[float]] = None
    std: Optional[List[float]] = None


OWN: Dict[str, OwnDataset] = {}


def register_dataset(
    name: str,
    open: Optional[Callable[..., Any]] = None,
    *,
    num_classes: int,
    image_size: int,
    channels: int = 3,
    class_names: Optional[Sequence[str]] = None,
    mean: Optional[Sequence[float]] = None,
    std: Optional[Sequence[float]] = None,
) -> Callable[..., Any]:
    """Make images known as ``data: {name: registered, dataset: NAME}``; also as a decorator.

    Args:
        name: of the data set; registering a name again replaces it.
        open: opens it, see the head of this file.
        num_classes, image_size, channels, class_names, mean, std: see :class:`OwnDataset`.

    Returns:
        ``open``.

    Raises:
        RegistrationError: counts that are none, or do not go together.
    """
    for key, value in (("num_classes", num_classes), ("image_size", image_size), ("channels", channels)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RegistrationError(
                f"data set {name}: {key} must be a whole number, 1 or more; got {value!r}"
            )
    for key, values, count in (
        ("class_names", class_names, num_classes),
        ("mean", mean, channels),
        ("std", std, channels),
    ):
        if values is not None and len(values) != count:
            raise RegistrationError(
                f"data set {name}: {key} has {len(values)} entries, and {count} are needed"
            )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise RegistrationError(f"data set {name}: {function!r} is no function that opens it")
        names = None if class_names is None else [str(one) for one in class_names]
        middle = None if mean is None else [float(value) for value in mean]
        spread = None if std is None else [float(value) for value in std]
        OWN[name] = OwnDataset(function, num_classes, channels, image_size, names, middle, spread)
        return function

    return register if open is None else register(open)
