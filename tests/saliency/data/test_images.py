import io

import numpy as np
import pytest
from PIL import Image

from goctconv._checks import FileNote
from goctconv.saliency import ImageError, read_image
from goctconv.saliency.data._images import image_size
from saliency.pictures import encode, gradient


def read(image, file_format="PNG", **options):
    return np.asarray(read_image(encode(image, file_format, **options)))


def test_rgb_is_taken_as_it_is(tmp_path):
    array = gradient()
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    for source in (path, str(path), path.read_bytes(), Image.fromarray(array), Image.open(path), array):
        result = read_image(source)
        assert result.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(result), array)


def test_grey_becomes_three_equal_channels():
    grey = gradient()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read(Image.fromarray(grey)), expected)
    np.testing.assert_array_equal(np.asarray(read_image(grey)), expected)


def test_one_bit():
    bits = gradient()[..., 0] > 100
    result = read(Image.fromarray(bits))
    np.testing.assert_array_equal(result[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(dtype, file_format):
    if (dtype, file_format) == (np.int32, "PNG"):
        pytest.skip("a PNG has no 32-bit grey")
    values = np.array([[0, 128, 129, 257], [300, 32768, 65278, 65535]], dtype=dtype)
    expected = np.round(values / 257)
    np.testing.assert_array_equal(read(Image.fromarray(values), file_format)[..., 0], expected)


def test_every_sixteen_bit_value_is_rounded_to_nearest():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    result = np.asarray(read_image(Image.fromarray(values)))[..., 2]
    np.testing.assert_array_equal(result, np.round(values / 257.0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 1.0], [0, 64, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([float("inf"), 0.5, 1.0], [0, 128, 255]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
    ],
)
def test_floating_point_grey(values, expected):
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert image.mode == "F"
    assert read(image, "TIFF")[0, :, 0].tolist() == expected


def test_integers_beyond_sixteen_bits_are_stretched():
    image = Image.fromarray(np.array([[-100, 0, 155]], dtype=np.int32))
    assert np.asarray(read_image(image))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_composited_over_white(mode):
    image = Image.new("RGBA", (3, 1), (10, 10, 10, 255))
    image.putpixel((1, 0), (10, 10, 10, 0))
    image.putpixel((2, 0), (10, 10, 10, 51))
    assert read(image.convert(mode))[0, :, 0].tolist() == [10, 255, 206]


def test_palette_with_an_alpha_channel():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30])
    image.putalpha(Image.fromarray(np.array([[255, 0]], np.uint8)))
    assert image.mode == "PA"
    assert np.asarray(read_image(image))[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_palette():
    array = np.zeros((4, 4, 3), np.uint8)
    array[:2] = (200, 30, 40)
    image = Image.fromarray(array).quantize(2)
    assert image.mode == "P"
    np.testing.assert_array_equal(read(image), array)
    np.testing.assert_array_equal(read(image, "GIF"), array)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_with_transparency(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read(image, transparency=transparency)[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize(("mode", "key"), [("RGB", (9, 8, 7)), ("L", 9)])
def test_transparent_colour(mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), (1, 2, 3) if mode == "RGB" else 1)
    result = read(image, transparency=key)
    assert result[0, 0].tolist() == [255, 255, 255]
    assert result[0, 1].tolist() == ([1, 2, 3] if mode == "RGB" else [1, 1, 1])


def test_cmyk():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(read(image, "JPEG").astype(int) - (255, 0, 0)).max() <= 6
    np.testing.assert_array_equal(read(image, "TIFF")[0, 0], (255, 0, 0))


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(file_format):
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    with pytest.warns(FileNote, match="of several (frames|pages), the first was read"):
        result = read(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(result, np.asarray(frames[0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    upright = gradient(16, 24)
    # What a camera stores, by the definition of the tag: where row 0 and column 0 of the stored pixels lie.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(path)), upright)
    with Image.open(path) as image:
        assert image_size(image) == (16, 24)
        np.testing.assert_array_equal(np.asarray(read_image(image)), upright)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\x63"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow says so, and goes on
def test_bad_exif_counts_as_upright(exif):
    assert read(Image.fromarray(gradient()), "JPEG", exif=exif).shape == (37, 53, 3)


@pytest.mark.parametrize(
    "mode", ["1", "CMYK", "F", "HSV", "I", "I;16", "L", "LA", "LAB", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"]
)
def test_every_mode_of_pillow(mode):
    image = Image.new(mode, (5, 3))
    assert read_image(image).size == (5, 3)
    assert image.mode == mode


def test_the_image_given_is_unchanged():
    image = Image.new("RGBA", (2, 2), (1, 2, 3, 4))
    read_image(image)
    assert image.getpixel((0, 0)) == (1, 2, 3, 4)


@pytest.mark.parametrize("shape", [(4, 5, 4), (3, 4, 5), (2, 4, 5, 3), (5,)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ImageError, match=r"shape .* expected \(H, W, 3\)"):
        read_image(np.zeros(shape, np.uint8))


def test_arrays_of_other_types_are_refused():
    with pytest.raises(ImageError, match="dtype float64, expected uint8"):
        read_image(np.zeros((4, 5, 3)))


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0)])
def test_empty_arrays_are_refused(shape):
    with pytest.raises(ImageError, match="at least one pixel"):
        read_image(np.zeros(shape, np.uint8))


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="image=3 must be a path"):
        read_image(3)


def test_non_contiguous_arrays():
    array = gradient()[::-2, ::3]
    np.testing.assert_array_equal(np.asarray(read_image(array)), array)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_known_before_decoding(file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(gradient(13, 17)), file_format, exif=exif.tobytes())
    upright = read_image(data)
    assert image_size(Image.open(io.BytesIO(data))) == (upright.height, upright.width)
