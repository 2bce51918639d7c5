"""Bytes of an image file to 8-bit RGB pixels: as the picture is meant, or one message that says why not.

What is done to a picture, and nothing else:

    grey, palettes, CMYK, YCbCr   become RGB
    16 bits a channel             are scaled to 8: 65535 becomes 255, of 12 bits 4095
    EXIF orientation              is applied, so that the picture stands upright
    transparency                  a picture with any pixel that is not opaque is refused, or laid on black or white

What has no such meaning is refused: 32-bit integers and floating point (no value is white), several frames, damage.
"""

import importlib.util
import io
import math
import os
import re
import stat
import zlib
from functools import lru_cache
from typing import Iterator, NamedTuple, NoReturn, Optional, Tuple, Union

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from typing_extensions import Literal

from .errors import DataError

# Pillow reads more (EPS by running a program); a training image is one of these. Importing them makes them known.
# A camera's JPEG file with previews (MPO) is found by the JPEG one.
_PLUGINS = {
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "BMP": BmpImagePlugin,
    "DIB": BmpImagePlugin,
    "WEBP": WebPImagePlugin,
    "GIF": GifImagePlugin,
    "TIFF": TiffImagePlugin,
    "PPM": PpmImagePlugin,
}
FORMATS = tuple(_PLUGINS)
# Two of Pillow's own limit, from which on it refuses; between them it only warns.
MOST_PIXELS = 2 * 89_478_485
_EXIF = b"Exif\0\0"
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF files; 0 of the latter: white is zero
_PNG = b"\x89PNG\r\n\x1a\n"
# Some programs leave a few bytes between the segments of a JPEG file; many are pixels that could not be understood.
_STRAY = re.compile(r"(\d+) extraneous bytes")
_MOST_STRAY = 16

Picture = Union[Image.Image, np.ndarray]  # 8-bit RGB; an array is [H, W, 3]


class Rules(NamedTuple):
    """What may be done to a picture.

    Attributes:
        transparency: refuse pictures with pixels that are not opaque, or lay them on this colour.
        decoder: simplejpeg is faster on JPEG files and gives the same pixels as Pillow; auto: simplejpeg where it is
            installed.
    """

    transparency: Literal["error", "black", "white"] = "error"
    decoder: Literal["auto", "simplejpeg", "pillow"] = "auto"


USUAL = Rules()


@lru_cache(maxsize=None)
def has_simplejpeg() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None


def read_file(path: str) -> bytes:
    """The bytes of a regular file; of a link, those of what it leads to. Never waits for the other end of a pipe.

    Raises:
        DataError: it cannot be read, or is no file.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: is {kind_of(status.st_mode)}, not a file; delete it")
            parts = [os.read(number, status.st_size + 1)]
            while parts[-1]:
                parts.append(os.read(number, 2**20))
            return b"".join(parts)
        finally:
            os.close(number)
    except OSError as error:
        refuse(path, error.strerror or type(error).__name__)


def kind_of(mode: int) -> str:
    """What else than a file something is, in words."""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe (FIFO)"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((words for test, words in kinds if test(mode)), "no regular file")


def refuse(name: str, reason: str) -> NoReturn:
    raise DataError(f"{name}: not a readable image ({reason}); replace or delete it") from None


def decode(data: bytes, name: str, rules: Rules = USUAL, share: float = 1.0) -> Picture:
    """The picture in the bytes of a file, 8-bit RGB.

    Args:
        data: the file.
        name: how messages call it.
        rules: what may be done to it.
        share: JPEG files may be decoded at a half, a quarter or an eighth of their size, not below this share of it.

    Raises:
        DataError: damaged, of no known format, or without a meaning in 8-bit RGB.
    """
    if not data:
        refuse(name, "the file is empty")
    if data[:2] == b"\xff\xd8" and rules.decoder != "pillow" and has_simplejpeg():
        fast = _decode_jpeg(data, name, share)
        if fast is not None:
            return fast
    if data[:8] == _PNG:
        for _ in _chunks(data, name):  # decoders do not look at the checksums of pixels
            pass
    # PIL raises nearly everything on broken files: OSError, SyntaxError, ValueError, struct.error, ...
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _meant(image, data, name, rules, share)
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        refuse(name, _what_else(data))
    except MemoryError:
        refuse(name, "it does not fit into memory")
    except Exception as error:
        lines = re.sub(r"'?<_io.BytesIO [^>]*>'?", "the file", str(error)).splitlines()
        refuse(name, getattr(error, "strerror", None) or (lines[0] if lines else type(error).__name__))


# -- JPEG ------------------------------------------------------------------------------------------------------------


def _decode_jpeg(data: bytes, name: str, share: float) -> Optional[np.ndarray]:
    """The pixels of a plain JPEG file; None leaves it to Pillow: CMYK, turned pictures, what is not understood."""
    import simplejpeg

    if _has_exif(data) and _is_turned(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours in ("CMYK", "YCCK"):
        return None
    _check_size(width, height, name)
    scaled = {}
    if share <= 0.5:
        scaled = {
            "min_height": math.ceil(height * share),
            "min_width": math.ceil(width * share),
            "min_factor": 2,
        }
    try:
        return simplejpeg.decode_jpeg(data, **scaled)
    except ValueError as error:
        stray = _STRAY.search(str(error))
        if stray and int(stray.group(1)) <= _MOST_STRAY:
            return simplejpeg.decode_jpeg(data, strict=False, **scaled)
        if any(word in str(error) for word in ("Corrupt", "Premature", "Invalid")):
            refuse(name, str(error))
        return None


def jpeg_size(data: bytes) -> Optional[Tuple[int, int]]:
    """Width and height of a JPEG file that stands upright; None: of anything else."""
    if data[:2] != b"\xff\xd8" or (_has_exif(data) and _is_turned(data)):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.size
    except Exception:
        return None


def _has_exif(data: bytes) -> bool:
    """Whether a JPEG file has an EXIF part before its pixels; looks at the head of each part (ITU-T T.81, B.1.1)."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1 : at + 2]
        if marker == b"\xda":  # of the first scan
            return False
        if marker == b"\xff":  # fills up
            at += 1
            continue
        if marker == b"\xe1" and data[at + 4 : at + 10] == _EXIF:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return _EXIF in data  # bytes between the parts, which decoders pass over


def _is_turned(data: bytes) -> bool:
    """Whether the EXIF part of a JPEG file asks for a rotation; one that cannot be read does not."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.getexif().get(0x0112, 1) in range(2, 9)
    except Exception:
        return True  # Pillow shall say what is wrong


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        refuse(name, f"{width} x {height} pixels are more than {MOST_PIXELS:,}")


# -- everything else ---------------------------------------------------------------------------------------------------


def _meant(image: Image.Image, data: bytes, name: str, rules: Rules, share: float) -> Image.Image:
    _check_size(image.width, image.height, name)
    # MPO: a camera's JPEG file with previews behind the picture
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    if frames > 1:
        refuse(name, f"it has {frames} frames, and a training image is one")
    if share <= 0.5 and image.format == "JPEG":
        image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
    image.load()
    if image.format == "PNG":
        _check_rows(image, data, name)
    return _to_rgb(_upright(image), str(image.format), name, rules, _ends_of(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read asks for nothing
        return image
    return image if turned is None else turned


def _ends_of(image: Image.Image) -> Tuple[int, int]:
    """The values of black and of white in a grey picture of more than 8 bits, which Pillow leaves as they are."""
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return 0, 65535
    bits = tags.get(_BITS, 16)
    most = 2 ** int(bits[0] if isinstance(bits, tuple) else bits) - 1
    return (most, 0) if tags.get(_PHOTOMETRIC, 1) == 0 else (0, most)


def _to_rgb(
    image: Image.Image, kind: str, name: str, rules: Rules, ends: Tuple[int, int] = (0, 65535)
) -> Image.Image:
    mode, keyed_colour = image.mode, "transparency" in image.info
    if mode == "F":
        refuse(
            name, "its pixels are floating-point numbers, and no value of them is white; store 8 or 16 bits"
        )
    if mode.startswith("I"):
        if keyed_colour:
            refuse(name, "16-bit grey with a transparent colour; store it opaque")
        return _from_16_bits(image, kind, name, ends)
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or keyed_colour:
        return _laid_on(image.convert("RGBA"), name, rules)
    return image.convert("RGB")


def _from_16_bits(image: Image.Image, kind: str, name: str, ends: Tuple[int, int]) -> Image.Image:
    # Pillow calls 16-bit PNG and PGM files "I" before version 11, as it does 32-bit integers
    deep = image.mode.startswith("I;16") or kind in ("PNG", "PPM")
    values = np.asarray(image).astype(np.int64)
    black, most = ends[0], max(ends)
    if not deep or values.min() < 0 or values.max() > most:
        refuse(name, "its pixels are 32-bit integers, and no value of them is white; store 8 or 16 bits")
    values = np.abs(values - black)
    return Image.fromarray(((values * 255 + most // 2) // most).astype(np.uint8)).convert("RGB")


def _laid_on(image: Image.Image, name: str, rules: Rules) -> Image.Image:
    if image.getextrema()[3][0] == 255:
        return image.convert("RGB")
    if rules.transparency == "error":
        raise DataError(
            f"{name}: has transparent pixels; set data.transparency to the colour behind them (black or white), or "
            "store it opaque"
        )
    ground = Image.new("RGBA", image.size, rules.transparency)
    return Image.alpha_composite(ground, image).convert("RGB")


def _chunks(data: bytes, name: str) -> Iterator[Tuple[bytes, bytes]]:
    """Kind and content of the parts of a PNG file.

    Raises:
        DataError: a part that is damaged or missing.
    """
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data) or end > len(data):
            refuse(name, "the file is truncated")
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            refuse(name, f"the checksum of its part {kind.decode('ascii', 'replace')} is wrong: damaged")
        yield kind, data[at + 8 : end - 4]
        at = end


def _check_rows(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse a PNG file with too few rows, which Pillow fills up with zeros."""
    interlaced = bool(data[28])
    last = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
    if last.any() and not interlaced:
        return
    rows = zlib.decompress(b"".join(content for kind, content in _chunks(data, name) if kind == b"IDAT"))
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
    # first column and row, and steps, of the passes of interlaced files (PNG specification, section 8.2)
    passes = (
        ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        if interlaced
        else ((0, 0, 1, 1),)
    )
    needed = 0
    for left, top, right, down in passes:
        width, height = -((left - image.width) // right), -((top - image.height) // down)
        if width > 0:
            needed += max(height, 0) * (1 + (width * bits + 7) // 8)
    if len(rows) < needed:
        refuse(name, f"it holds {len(rows):,} of {needed:,} bytes of pixels")


def _what_else(data: bytes) -> str:
    """What a file is that is no image."""
    start = data[:64].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page"
    if not any(data):
        return "all its bytes are zero"
    known = (
        (b"%pdf", "a PDF file"),
        (b"pk\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"%!ps", "a PostScript file"),
        (b"<svg", "an SVG drawing"),
    )
    for magic, words in known:
        if start.startswith(magic):
            return f"it is {words}"
    if data[4:8] == b"ftyp":
        return f"it is a {data[8:12].decode('ascii', 'replace')} file, such as HEIC, AVIF or a film"
    if data[:2] == b"\xff\xd8" or data[:8] == _PNG:
        return "it is damaged"
    return "of no image format that is read here: " + ", ".join(name for name in FORMATS if name != "DIB")
