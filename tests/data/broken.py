"""Broken image data of some sixty kinds, each with what has to be said about it."""

import io
import os
import socket
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 48


def pixels(seed=0, channels=3):
    """Smooth noise, uint8 ``[SIDE, SIDE, channels]``: no two rows are alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((SIDE, SIDE), Image.BICUBIC)
    return np.asarray(small)[:, :, :channels]


def saved(kind, image=None, **keys):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (Image.fromarray(pixels()) if image is None else image).save(buffer, kind, **keys)
    return buffer.getvalue()


def png(width, height, depth, colour, rows, *more):
    """A PNG file by the letter of its specification; ``more`` are (kind, data) before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + row for row in rows)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [chunk(*part) for part in more]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")])


def grey_tiff(width, height, bits, photometric, data):
    """A grey TIFF file by the letter of its specification (6.0, section 4); photometric 0: white is zero."""
    short, long = 3, 4
    fields = [(256, short, width), (257, short, height), (258, short, bits), (259, short, 1)]
    fields += [
        (262, short, photometric),
        (273, long, 8 + 2 + 12 * 9 + 4),
        (277, short, 1),
        (278, short, height),
    ]
    fields += [(279, long, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4) + data


def flipped(data, at, mask=0x5A):
    damaged = bytearray(data)
    damaged[at] ^= mask
    return bytes(damaged)


def grey_alpha(alpha):
    return Image.merge("LA", [Image.new("L", (SIDE, SIDE), 90), Image.new("L", (SIDE, SIDE), alpha)])


def with_alpha(alpha=128):
    image = Image.fromarray(pixels()).convert("RGBA")
    image.putpixel((3, 5), (10, 20, 30, alpha))
    return image


def frames(kind, **keys):
    others = [Image.fromarray(pixels(seed)) for seed in (1, 2)]
    return saved(kind, save_all=True, append_images=others, **keys)


def palette_with_hole():
    image = Image.fromarray(pixels()).convert("P", palette=Image.ADAPTIVE)
    return saved("PNG", image, transparency=0)


def file_kinds():
    """name: (file name, bytes, words of the message)."""
    jpeg, whole_png = saved("JPEG", quality=95), saved("PNG")
    middle = len(jpeg) // 2
    ramp = np.arange(SIDE * SIDE, dtype=np.int32).reshape(SIDE, SIDE)
    idat = whole_png.index(b"IDAT") + 8
    kinds = {
        "empty": ("a.jpg", b"", "empty"),
        "text": ("a.jpg", b"no image", "no image format"),
        "web page": ("a.jpg", b"<!DOCTYPE html><html>404</html>", "a web page"),
        "xml": ("a.png", b"<?xml version='1.0'?><Error/>", "a web page"),
        "git lfs pointer": ("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        "zeros": ("a.jpg", bytes(5000), "bytes are zero"),
        "pdf": ("a.jpg", b"%PDF-1.4 ...", "a PDF"),
        "zip": ("a.jpg", b"PK\x03\x04" + bytes(30), "a ZIP"),
        "gzip": ("a.png", b"\x1f\x8b" + bytes(30), "a gzip"),
        "postscript": ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        "svg": ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "heic": ("a.jpg", b"\0\0\0\x18ftypheic" + bytes(40), "heic"),
        "noise": (
            "a.jpg",
            bytes(np.random.default_rng(1).integers(0, 256, 4000, np.uint8)),
            "no image format",
        ),
        "jpeg marker alone": ("a.jpg", b"\xff\xd8", "damaged"),
        "jpeg without its start": ("a.jpg", jpeg[2:], "no image format"),
        "jpeg of which bits are flipped": ("a.jpg", damaged_jpeg(jpeg), "orrupt"),
        "jpeg with zeros in the middle": (
            "a.jpg",
            jpeg[:middle] + bytes(200) + jpeg[middle + 200 :],
            "orrupt",
        ),
        "jpeg without its last bytes": ("a.jpg", jpeg[:-2], "remature end"),
        "png with a flipped bit in its pixels": ("a.png", flipped(whole_png, idat + 40), "IDAT is wrong"),
        "png with a wrong checksum": ("a.png", flipped(whole_png, -2), "IEND is wrong"),
        "png without its end": ("a.png", whole_png[:-12], "truncated"),
        "png signature alone": ("a.png", whole_png[:8], "truncated"),
        "png of no size": ("a.png", png(0, 0, 8, 2, []), "not a readable image"),
        "png of a huge size": ("a.png", png(30000, 30000, 8, 2, [bytes(3)]), "pixels"),
        "png with too few rows": (
            "a.png",
            png(SIDE, SIDE, 8, 2, [bytes(3 * SIDE)] * 9),
            "not a readable image",
        ),
        "int32 tiff": ("a.tif", saved("TIFF", Image.fromarray(ramp * 100000)), "32-bit integers"),
        "small int32 tiff": ("a.tif", saved("TIFF", Image.fromarray(ramp % 200)), "32-bit integers"),
        "float tiff": (
            "a.tif",
            saved("TIFF", Image.fromarray((ramp / ramp.max()).astype("f4"))),
            "floating-point",
        ),
        "float tiff up to 255": (
            "a.tif",
            saved("TIFF", Image.fromarray(ramp.astype("f4"))),
            "floating-point",
        ),
        "pfm": ("a.ppm", b"Pf\n4 4\n-1.0\n" + np.ones(16, "<f4").tobytes(), "floating-point"),
        "rgba": ("a.png", saved("PNG", with_alpha()), "transparent"),
        "rgba by one pixel": ("a.png", saved("PNG", with_alpha(254)), "transparent"),
        "rgba webp": ("a.webp", saved("WEBP", with_alpha(0), lossless=True), "transparent"),
        "rgba tiff": ("a.tif", saved("TIFF", with_alpha(7)), "transparent"),
        "grey with alpha": ("a.png", saved("PNG", grey_alpha(100)), "transparent"),
        "palette with a hole": ("a.png", palette_with_hole(), "transparent"),
        "gif with a hole": (
            "a.gif",
            saved("GIF", Image.fromarray(pixels()).convert("P"), transparency=int(pixels_index())),
            "transparent",
        ),
        "rgb with a transparent colour": (
            "a.png",
            png(2, 1, 8, 2, [bytes([9, 9, 9, 5, 5, 5])], (b"tRNS", struct.pack(">HHH", 9, 9, 9))),
            "transparent",
        ),
        "16-bit grey with a transparent colour": (
            "a.png",
            png(2, 1, 16, 0, [struct.pack(">HH", 9, 900)], (b"tRNS", struct.pack(">H", 9))),
            "transparent colour",
        ),
        "animated gif": ("a.gif", frames("GIF"), "3 frames"),
        "animated png": ("a.png", frames("PNG"), "3 frames"),
        "animated webp": ("a.webp", frames("WEBP"), "3 frames"),
        "tiff of several pages": ("a.tif", frames("TIFF"), "3 frames"),
        "icon by another name": ("a.png", saved("ICO"), "no image format"),
        "a file with a line break in its name": ("a\nb.jpg", b"", "empty"),
        "a file whose name is no text": (os.fsdecode(b"\xff\xfe.jpg"), b"", "empty"),
    }
    formats = (
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("BMP", "bmp"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("TIFF", "tif"),
    )
    for kind, ending in (*formats, ("PPM", "ppm")):
        data = saved(kind)
        for share in (0.1, 0.6, 0.9):
            cut = data[: int(len(data) * share)]
            kinds[f"{kind} of which {share:.0%} are there"] = (f"a.{ending}", cut, "not a readable image")
    return kinds


def pixels_index():
    return np.asarray(Image.fromarray(pixels()).convert("P"))[0, 0]


def damaged_jpeg(jpeg):
    """Zeroed coefficients behind the headers: the Huffman codes no longer fit."""
    start = jpeg.index(b"\xff\xda") + 60
    return jpeg[:start] + bytes([0x5F, 0xA5, 0x13]) * 30 + jpeg[start + 90 :]


def place_kinds(folder):
    """name: (function that makes it in the class folder, words of the message): what is no file."""

    def pipe():
        os.mkfifo(folder / "bad.jpg")

    def door():
        with socket.socket(socket.AF_UNIX) as end:
            here = os.getcwd()
            os.chdir(folder)  # the address of a socket is short
            try:
                end.bind("bad.jpg")
            finally:
                os.chdir(here)

    return {
        "pipe": (pipe, "named pipe"),
        "socket": (door, "a socket"),
        "link that leads nowhere": (lambda: (folder / "bad.jpg").symlink_to("nowhere"), "leads nowhere"),
        "link to itself": (lambda: (folder / "bad.jpg").symlink_to("bad.jpg"), "leads nowhere"),
        "link to a device": (lambda: (folder / "bad.jpg").symlink_to("/dev/zero"), "a device"),
        "link to the parent": (lambda: (folder / "up").symlink_to(".."), "count twice"),
        "link to its own folder": (lambda: (folder / "self").symlink_to("."), "count twice"),
        "link to the root": (lambda: (folder / "all").symlink_to("/"), "count twice"),
        "link to another class": (lambda: (folder / "other").symlink_to("../x"), "count twice"),
    }
