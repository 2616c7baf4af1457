"""Pictures and networks that tests make up."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def gradient(height=37, width=53):
    """An RGB array whose every pixel differs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + 2 * y) % 256], axis=-1).astype(np.uint8)


def encode(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format=file_format, **options)
    return stream.getvalue()


def png_of_declared_size(width, height):
    """A PNG of a few bytes whose header declares any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def save(path, array=None, **options):
    """Save an array as a picture; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gradient() if array is None else array).save(path, **options)
    return path
