"""The images: the section data, one typed section for each source."""

from typing import Any, Dict, Iterator, List, Optional, Union

from pydantic import Field
from typing_extensions import Annotated, Literal

from ..models import RegistrationError
from ..plugins.datasets import OWN as DATASETS
from ..plugins.datasets import OwnDataset
from ..plugins.loading import find_dataset
from .base import LARGEST_SIDE, MOST_CLASSES, AutoFlag, Complaint, Flag, Section, Text
from .choices import choice
from .errors import suggestion

# Share of each class kept for validation where a source has no validation images of its own.
VALIDATION_FRACTION = 0.2
_LARGE_IMAGE = 96  # side in pixels from which crops of varied scale are usual

_PerChannel = Annotated[
    List[Annotated[float, Field(ge=0, le=1)]],
    Field(min_length=1, max_length=4),
]
_Jitter = Annotated[List[Annotated[float, Field(ge=0, le=10)]], Field(min_length=4, max_length=4)]
_Spread = Annotated[List[Annotated[float, Field(ge=1e-6, le=1e3)]], Field(min_length=1, max_length=4)]

_AUGMENT = (
    "Random changes of the training images. random_resized_crop and centre_crop are for image files, which take the "
    "former from 96 pixels on, else flip_crop; centre_crop: its training images are prepared as the validation images "
    "of random_resized_crop are, for fine-tuning at the test size."
)
Augment = Annotated[Literal["none", "flip_crop", "shift"], Field(description=_AUGMENT)]
FolderAugment = Annotated[
    Optional[Literal["none", "flip_crop", "shift", "random_resized_crop", "centre_crop"]],
    Field(description=_AUGMENT),
]
_PATH = (
    "Folder of the data set, or where it is downloaded to. Required for imagefolder, webdataset and packed."
)
_SIDE = "Side of the square images in pixels. null: the source's own; for image files the model's."
_FRACTION = "Share of each class kept for validation where the source has no validation images of its own."
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE, description=_SIDE)]
OwnSide = Annotated[Optional[int], Field(ge=1, le=LARGEST_SIDE, description=_SIDE)]
Fraction = Annotated[float, Field(gt=0, lt=1, description=_FRACTION)]
Length = Annotated[int, Field(ge=1, le=20_000_000, description="Training images of generated or synthetic.")]

_ORDER = """
    name dataset options path download image_size train_split validation_split validation_fraction augment crop_padding
    auto_augment randaugment_ops randaugment_magnitude color_jitter random_erasing repeats bounding_boxes
    test_crop interpolation antialias mean std
    workers cache on_error most_skipped transparency scaled_decoding decoder length num_classes channels
"""


class DataConfig(Section):
    """The images."""

    name: str = Field(
        description="Source: scikit-learn's digits, torchvision's data sets, a folder of images, tar shards of images, "
        "a packed data set, generated learnable images, or synthetic noise for measuring speed."
    )
    image_size: OwnSide = None
    augment: Augment
    crop_padding: Optional[int] = Field(
        None,
        ge=1,
        le=LARGEST_SIDE,
        description="Largest displacement in pixels of flip_crop and shift. null: 1 in 8 of the side.",
    )
    auto_augment: Literal[
        "none", "randaugment", "trivialaugment", "autoaugment", "autoaugment_cifar10", "autoaugment_svhn"
    ] = Field(
        "none",
        description="Policy that changes colours and shapes of the training images after cropping and flipping, by "
        "torchvision: RandAugment, TrivialAugment (wide) or one of AutoAugment's three.",
    )
    randaugment_ops: Optional[int] = Field(
        None, ge=1, le=16, description="Changes that RandAugment makes of one image. null: 2."
    )
    randaugment_magnitude: Optional[int] = Field(
        None, ge=0, le=30, description="Strength of RandAugment's changes, of 30. null: 9."
    )
    color_jitter: Optional[_Jitter] = Field(
        None,
        description="Strengths of random changes of brightness, contrast, saturation and hue (up to 0.5), as "
        "torchvision's ColorJitter takes them. null: none.",
    )
    random_erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a rectangle of a training image is erased (2 to 33 % of its area, filled with "
        "data.mean; Zhong et al. 2020).",
    )
    repeats: int = Field(
        1,
        ge=1,
        le=64,
        description="Repeated augmentation (Hoffer et al. 2020): copies of an image in micro-batches that follow each "
        "other, each augmented anew. An epoch stays as long as it is, with 1 in so many of the images.",
    )
    mean: Optional[_PerChannel] = Field(
        None, description="Mean of each channel for the normalisation, in 0..1. null: the source's."
    )
    std: Optional[_Spread] = Field(
        None,
        description="Standard deviation of each channel for the normalisation, in 0..1. null: the source's.",
    )
    workers: int = Field(
        0, ge=0, le=256, description="Processes that read and augment images beside the main one."
    )

    def complaints(self) -> Iterator[Complaint]:
        for key in ("randaugment_ops", "randaugment_magnitude"):
            if getattr(self, key) is not None and self.auto_augment != "randaugment":
                yield key, f"not read by auto_augment {self.auto_augment} (only randaugment)"
        if self.color_jitter is not None and self.color_jitter[3] > 0.5:
            yield "color_jitter", f"the fourth, hue, must be at most 0.5, got {self.color_jitter[3]:g}"
        if self.crop_padding is not None and self.augment not in ("flip_crop", "shift", None):
            yield "crop_padding", f"not read by augment {self.augment} (only flip_crop, shift)"
        if (self.mean is None) != (self.std is None):
            yield ("std" if self.std is None else "mean"), "mean and std are given together or not at all"
        elif self.mean is not None and len(self.mean) != len(self.std or []):
            yield "std", f"has {len(self.std or [])} channels and mean has {len(self.mean)}"


class Digits(DataConfig):
    """scikit-learn's 1,797 handwritten digits."""

    name: Literal["digits"]
    augment: Augment = "shift"
    validation_fraction: Fraction = VALIDATION_FRACTION


class Downloaded(DataConfig):
    """A data set that torchvision downloads."""

    augment: Augment = "flip_crop"
    path: Optional[Text] = Field(None, description=_PATH + " null: the user's cache folder.")
    download: Flag = Field(True, description="Download cifar10, cifar100 or fashion_mnist when not there.")


class Cifar10(Downloaded):
    """CIFAR-10 through torchvision."""

    name: Literal["cifar10"]


class Cifar100(Downloaded):
    """CIFAR-100 through torchvision."""

    name: Literal["cifar100"]


class FashionMnist(Downloaded):
    """Fashion-MNIST through torchvision."""

    name: Literal["fashion_mnist"]


class ImageFolder(DataConfig):
    """A folder of images with one sub-folder a class, such as ImageNet."""

    name: Literal["imagefolder"]
    augment: FolderAugment = None  # type: ignore[assignment]
    path: Text = Field(description=_PATH)
    train_split: Optional[Text] = Field(
        None,
        description="Sub-folder of the training images; for webdataset also a pattern such as train-*.tar, for packed "
        "a part. null: train, when there.",
    )
    validation_split: Optional[Text] = Field(
        None,
        description="The same of the validation images. null: val, validation, valid or test, when there.",
    )
    validation_fraction: Optional[float] = Field(
        None, gt=0, lt=1, description=_FRACTION + f" null: {VALIDATION_FRACTION} where it is needed."
    )
    cache: AutoFlag = Field(
        "auto", description="Keep decoded images of files in RAM. auto: when below 2 GiB."
    )
    on_error: Literal["error", "skip"] = Field(
        "error",
        description="An image that cannot be used (`ipu-train data check` finds them all beforehand): error saves the "
        "run and ends it; skip trains on the next usable image in its place, validates without it, and counts.",
    )
    most_skipped: float = Field(
        0.01,
        ge=0,
        le=0.5,
        description="Largest share of the images that on_error: skip may leave out; one image it always may.",
    )
    transparency: Literal["error", "black", "white"] = Field(
        "error",
        description="Pictures with pixels that are not opaque: error refuses them; black or white is laid behind "
        "them.",
    )
    scaled_decoding: Flag = Field(
        False,
        description="Decode JPEG files of training at a half, a quarter or an eighth of their size where the crop "
        "still has image_size pixels: faster on photographs of many megapixels, with slightly other pixels. Images in "
        "RAM are decoded whole.",
    )
    decoder: Literal["auto", "simplejpeg", "pillow"] = Field(
        "auto",
        description="What decodes JPEG files. simplejpeg gives the same pixels as Pillow in less time, and notices "
        "damage that Pillow passes over. auto: simplejpeg where it is installed.",
    )

    bounding_boxes: AutoFlag = Field(
        "auto",
        description="Draw random resized crops again, up to 10 times, until 10 % of a crop are in the object's box, by "
        "data.path/imagenet_2012_bounding_boxes.csv (file name, left, top, right, bottom as shares). auto: when it is "
        "there.",
    )
    test_crop: Optional[float] = Field(
        None,
        gt=0,
        le=1,
        description="Side of the centre crop that validation sees, as a share of an image's shorter side. null: 0.875 "
        "where random_resized_crop or centre_crop trains, else 1. Training without random crops sees the same.",
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = Field(
        "bilinear", description="How images are resized, in training and validation."
    )
    antialias: Flag = Field(
        True,
        description="Whether resizing to fewer pixels averages over those in between. false samples single points, as "
        "networks trained without it expect (bilinear, bicubic and nearest only).",
    )

    @property
    def side(self) -> int:
        """Side of the images in pixels, once it is known."""
        if self.image_size is None:
            raise ValueError(
                "data.image_size is not filled in yet; it comes with the model of a whole configuration"
            )
        return self.image_size

    def settle(self, native_side: int) -> Iterator[Complaint]:
        """Fill in what depends on the model: the side of the images that it is made for, and what follows from it.

        Gives what is wrong then.
        """
        if self.image_size is None:
            self.fill("image_size", native_side)
            self._fill_augment(native_side)
            yield from super().complaints()

    def _fill_augment(self, side: int) -> None:
        if self.augment is None:
            self.fill("augment", "random_resized_crop" if side >= _LARGE_IMAGE else "flip_crop")

    def complaints(self) -> Iterator[Complaint]:
        if self.image_size is not None:
            self._fill_augment(self.image_size)
        if self.validation_split is not None and self.validation_fraction is not None:
            yield "validation_fraction", "not read, because validation_split names the validation images"
        if self.interpolation == "lanczos" and not self.antialias:
            yield "antialias", "lanczos is always antialiased; set it to true, or take bilinear or bicubic"
        if self.bounding_boxes is True and self.augment not in ("random_resized_crop", None):
            yield "bounding_boxes", f"not read by augment {self.augment} (only random_resized_crop)"
        yield from super().complaints()


class WebDataset(ImageFolder):
    """Tar shards in WebDataset's layout."""

    name: Literal["webdataset"]  # type: ignore[assignment]


class PackedImages(ImageFolder):
    """A data set that `ipu-train data pack` has written."""

    name: Literal["packed"]  # type: ignore[assignment]


class _Made(DataConfig):
    image_size: Side = 32  # type: ignore[assignment]
    augment: Augment = "none"
    length: Length
    num_classes: int = Field(10, ge=2, le=MOST_CLASSES, description="Classes of generated or synthetic.")
    channels: Literal[1, 3] = Field(3, description="Channels of generated or synthetic.")


class Generated(_Made):
    """Learnable images, made when they are asked for."""

    name: Literal["generated"]
    length: Length = 5000


class Synthetic(_Made):
    """Noise that costs nothing to fetch."""

    name: Literal["synthetic"]
    length: Length = 1024


class Registered(DataConfig):
    """Images of the user's own, see ``ipu_train.register_dataset``."""

    name: Literal["registered"]
    augment: Augment = "none"
    dataset: Text = Field(
        description="A data set registered with ipu_train.register_dataset: its name, or my_file.py:function."
    )
    options: Dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description="Further keyword arguments of the function that opens a registered data set.",
    )

    @property
    def own(self) -> OwnDataset:
        """What is registered."""
        found = find_dataset(self.dataset)
        if found is None:
            raise ValueError(f"no data set is registered as {self.dataset}")
        return found

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.image_size or self.own.image_size

    def complaints(self) -> Iterator[Complaint]:
        try:
            found = find_dataset(self.dataset)
        except RegistrationError as error:
            yield "dataset", str(error)
            return
        if found is None:
            hint = suggestion(self.dataset, DATASETS)
            yield (
                "dataset",
                f"no data set is registered as {self.dataset}{hint} (ipu_train.register_dataset does it)",
            )
            return
        if found.channels not in (1, 3):
            for key, off in (("auto_augment", "none"), ("color_jitter", None)):
                if getattr(self, key) != off:
                    yield (
                        key,
                        f"changes grey or RGB pictures, and {self.dataset} has images of {found.channels} channels; "
                        "leave it out",
                    )
        yield from super().complaints()


SOURCES = choice(
    _ORDER,
    DataConfig,
    Digits,
    Cifar10,
    Cifar100,
    FashionMnist,
    ImageFolder,
    WebDataset,
    PackedImages,
    Generated,
    Synthetic,
    Registered,
)
Data: Any = Annotated[
    Union[
        Digits,
        Cifar10,
        Cifar100,
        FashionMnist,
        ImageFolder,
        WebDataset,
        PackedImages,
        Generated,
        Synthetic,
        Registered,
    ],
    Field(discriminator="name"),
]
