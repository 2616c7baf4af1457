"""ICC profiles that tests make up, byte by byte."""

import struct

# Chromaticities of red, green and blue, adapted to D50 as profiles hold them.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
_D50 = (0.9642, 1.0, 0.8249)


def _xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _profile(space, connection, tags, kind=b"mntr"):
    description = b"made up\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(description)) + description + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": _xyz(_D50), **tags}
    table, data, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return header + bytes(128 - len(header)) + table + data


def rgb_profile(primaries=DISPLAY_P3, gamma=2.2):
    """A profile of three primaries and one gamma."""
    colors = {name: _xyz(primary) for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    return _profile(b"RGB ", b"XYZ ", colors | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(gamma)))


def grey_profile(gamma=1.8):
    """A profile of grey."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk_profile():
    """A profile of inks as a table of two levels each: paper is a warm white, inks darken it more or less."""
    corners = bytearray()
    for corner in range(16):
        cyan, magenta, yellow, black = (corner >> shift & 1 for shift in (3, 2, 1, 0))
        light = max(0, 245 - 90 * cyan - 100 * magenta - 20 * yellow - 150 * black)
        corners += bytes([light, 128 - 60 * cyan + 70 * magenta, 134 - 40 * cyan + 80 * yellow])
    matrix = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    head = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix
    table = head + 4 * bytes(range(256)) + bytes(corners) + 3 * bytes(range(256))
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table}, kind=b"prtr")
