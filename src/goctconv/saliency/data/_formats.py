"""Suffixes of image files: those that are read, and what to do about others."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from PIL import Image

SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff"),
        ".webp",
    )
)
"""Those that are read in folders, where Pillow or a plugin of it can."""

RAW = frozenset(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
        *(".rwl", ".sr2", ".srw", ".x3f"),
    )
)
DRAWINGS = frozenset(("EPS", "WMF"))
"""Formats of Pillow that are drawings: other programs, such as Ghostscript, would run to read them."""
_PLUGINS = {"pillow_heif": "register_heif_opener", "pillow_jxl": ""}  # and what registers it, if not its import
_PHOTOGRAPHS = {
    "pip install 'goctconv[heif]' (pillow_heif), or convert to JPEG": (".heic", ".heics", ".heif", ".heifs", ".hif"),
    "pip install pillow-jxl-plugin, or convert to JPEG": (".jxl",),
    "install Pillow 11.3 or newer, or convert to JPEG": (".avif", ".avifs"),
    "develop raw photographs to JPEG or TIFF": tuple(sorted(RAW)),
}
_OTHERS = {
    "render drawings to PNG": (".ai", ".emf", ".eps", ".pdf", ".ps", ".svg", ".svgz", ".wmf"),
    "export pictures as PNG or TIFF": (".afphoto", ".clip", ".kra", ".psb", ".psd", ".xcf"),
    "map their tones to PNG or JPEG": (".exr", ".hdr"),
    "take pictures from films": (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"),
    "convert to JPEG or PNG": (".dcm", ".dds", ".fits", ".icns", ".ico", ".nii", ".pcx", ".sgi", ".xbm", ".xpm"),
}
_HINTS = {suffix: hint for hints in (_PHOTOGRAPHS, _OTHERS) for hint, suffixes in hints.items() for suffix in suffixes}


def register_plugins() -> None:
    """Have Pillow read what the plugins that are installed can: HEIC and JPEG XL."""
    for name, register in _PLUGINS.items():
        try:
            plugin = importlib.import_module(name)
        except ImportError:
            continue
        if register:
            getattr(plugin, register)()


def is_read(suffix: str) -> bool:
    """Whether files with a suffix, such as ``.jpg``, are read."""
    suffix = suffix.lower()
    if suffix not in SUFFIXES:
        return False
    if suffix in _HINTS and suffix not in Image.registered_extensions():
        register_plugins()
        return suffix in Image.registered_extensions()
    return True


def hint(suffix: str) -> str | None:
    """Return what to do about files with a suffix that are pictures and cannot be read; None about others."""
    return None if is_read(suffix) else _HINTS.get(suffix.lower())


def is_photograph(suffix: str) -> bool:
    """Whether files with a suffix are photographs, not drawings or films."""
    return suffix.lower() in SUFFIXES | RAW


def describe_unread(names: Iterable[str]) -> dict[str, str]:
    """Return, by suffix, how many of the files are pictures that are not read, and what to do about them."""
    counts = Counter(PurePath(name).suffix.lower() for name in names)
    return {
        suffix: f"{count} {suffix} {'file is' if count == 1 else 'files are'} not read: {found}"
        for suffix, count in sorted(counts.items())
        if (found := hint(suffix)) is not None
    }
