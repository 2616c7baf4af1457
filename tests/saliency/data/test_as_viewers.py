"""Files that viewers show and Pillow alone does not: JPEG without its last bytes, deep TIFF; and what is noted."""

import contextlib
import io
import os
import struct
import warnings

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin

from goctconv._checks import FileNote
from goctconv.saliency import ImageError, read_image
from goctconv.saliency.data._images import open_path
from goctconv.saliency.data._libtiff import quiet_libtiff
from saliency.pictures import encode, gradient

PICTURE = Image.fromarray(gradient(240, 320))


def smooth():
    y, x = np.mgrid[:240, :320]
    waves = 128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7 + x / 31)
    return Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("lacking", [1, 2, 3, 10, 40])
@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}, {"progressive": True}, {"quality": 30}])
def test_jpeg_that_lacks_only_its_last_bytes(lacking, options):
    data = encode(smooth(), "JPEG", **options)
    whole = np.asarray(read_image(data)).astype(int)
    with pytest.warns(FileNote, match=r"^image: the file ends too early: the end of its picture was filled in \(\d"):
        read = np.asarray(read_image(data[:-lacking])).astype(int)
    assert (np.abs(read - whole).max(axis=-1) > 2).mean() <= 0.03
    if not options.get("progressive"):
        np.testing.assert_array_equal(read[:200], whole[:200])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpeg_that_lacks_more_is_refused(share, options):
    data = encode(smooth(), "JPEG", **options)
    with pytest.raises(ImageError, match="ends too early"):
        read_image(data[: int(len(data) * share)])


def test_a_whole_jpeg_is_read_as_it_is():
    thumbnail = encode(PICTURE.resize((40, 30)), "JPEG")
    exif = Image.Exif()
    exif[0x010E] = thumbnail.decode("latin-1")
    whole = encode(PICTURE, "JPEG")
    for data in (whole, whole + b"\0" * 50, whole + thumbnail[:-2], encode(PICTURE, "JPEG", exif=exif)):
        np.testing.assert_array_equal(np.asarray(read_image(data)), np.asarray(read_image(whole)))  # with no note


def test_limits_hold_for_it_too(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(PICTURE, "JPEG")[:-2])
    with pytest.raises(ImageError, match="max_pixels is 100"), open_path(tmp_path / "a.jpg", 100):
        pass


def tiff(values, bits, **tags):
    """A TIFF file of one uncompressed strip, of grey with any number of bits."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint16)
        data = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        data = data.astype(np.uint8).tobytes()
    else:
        data = values.astype(f"<u{bits // 8}").tobytes()
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height, 279: len(data)}
    entries |= {273: 8 + 2 + 12 * (len(entries) + 1 + len(tags)) + 4, **{int(tag[1:]): tags[tag] for tag in tags}}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + struct.pack("<I", 0) + data


@pytest.mark.parametrize("highest", [4095, 1000])
def test_twelve_bits(highest):
    values = np.linspace(0, highest, 8).astype(int).reshape(2, 4)
    expected = np.floor(values * 255 / 4095 + 0.5)
    np.testing.assert_array_equal(np.asarray(read_image(tiff(values, 12)))[..., 0], expected)


def test_sixteen_bits_of_which_a_tag_names_the_highest_value():
    values = np.array([[0, 1000, 2048, 4095]])
    expected = np.floor(values * 255 / 4095 + 0.5)
    np.testing.assert_array_equal(np.asarray(read_image(tiff(values, 16, t281=4095)))[..., 0], expected)
    for tags in ({}, {"t281": 65535}, {"t281": 100}):
        np.testing.assert_array_equal(
            np.asarray(read_image(tiff(values, 16, **tags)))[..., 0], np.floor(values / 257 + 0.5)
        )


@pytest.mark.parametrize("highest", [2**32 - 1, 2**31 + 5, 3_000_000])
def test_thirty_two_bits_without_sign_are_scaled_by_their_range(highest):
    values = np.linspace(0, highest, 6).astype(np.uint64).reshape(2, 3)
    expected = np.floor(values * (255 / highest) + 0.5)
    np.testing.assert_array_equal(np.asarray(read_image(tiff(values, 32)))[..., 0], expected)


def test_raw_photographs_are_not_taken_for_their_previews(tmp_path):
    data = tiff(np.full((2, 4), 9), 16, t50706=0x0401)
    with pytest.raises(ImageError, match="raw photograph"):
        read_image(data)
    path = tmp_path / "a.NEF"
    path.write_bytes(tiff(np.full((2, 4), 9), 16))
    with pytest.raises(ImageError, match="raw photograph"):
        read_image(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_lines_of_libtiff_do_not_show(compression, capfd):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)).save(
        stream, "TIFF", compression=compression
    )
    original, rng = np.frombuffer(stream.getvalue(), np.uint8), np.random.default_rng(1)
    printed = 0
    for _ in range(40):
        data = original.copy()
        data[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in (lambda image: Image.open(io.BytesIO(image)).load(), read_image):
                with contextlib.suppress(Exception):  # whatever Pillow raises
                    read(data.tobytes())
                said = capfd.readouterr().err
                if read is read_image:
                    assert not said
                else:
                    printed += bool(said)
    assert printed > 3  # so that there was something to catch


def test_lines_of_others_show_while_tiff_is_decoded(capfd):
    with Image.open(io.BytesIO(encode(PICTURE, "TIFF"))) as image, quiet_libtiff(image), quiet_libtiff(image):
        os.write(2, b"ZIPDecode: Decoding error at scanline 0, incorrect data check.\nValueError: mine\n")
        os.write(2, b"tempfile.tif: Using code not yet in table.\ngoctconv: a.jpg: this is mine too\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "ValueError: mine\ngoctconv: a.jpg: this is mine too\n"


def test_animations_whose_next_frame_is_damaged_are_read():
    frames = [Image.fromarray(np.full((30, 40), level, np.uint8)) for level in (10, 200, 90)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    cut = data[: len(data) // 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_image(cut).getpixel((0, 0)) == read_image(data).getpixel((0, 0))


def test_pictures_of_one_frame_are_read_without_a_note():
    for file_format in ("GIF", "PNG", "TIFF", "WEBP"):
        assert read_image(encode(PICTURE, file_format)).size == PICTURE.size
    stream = io.BytesIO()
    PICTURE.save(stream, "MPO", save_all=True, append_images=[PICTURE])  # as of cameras: the others are previews
    assert read_image(stream.getvalue()).size == PICTURE.size


@pytest.mark.parametrize("name", ["drawing.eps", "photograph.jpg"])
def test_drawings_never_start_the_program_that_draws_them(tmp_path, monkeypatch, name):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    PICTURE.save(tmp_path / name, format="EPS")
    with pytest.raises(ImageError, match=r"not an image that Pillow can read: convert it to JPEG or PNG"):
        read_image(tmp_path / name)


def test_gamma_and_primaries_of_png_are_ignored(tmp_path):
    """A PNG without a profile is sRGB, whatever its chunks gAMA and cHRM say."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))  # linear light
    chunks.add(
        b"cHRM", b"".join(value.to_bytes(4, "big") for value in (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
    )
    pixels = np.random.default_rng(3).integers(256, size=(5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=chunks)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["gamma"] == 1
    for shown in (False, True):
        np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png", shown=shown)), pixels)
