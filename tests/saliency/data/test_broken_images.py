import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from goctconv.saliency import ImageError, cutout, read_image
from goctconv.saliency.data import ImagePair, mask_of, understand_masks
from saliency.pictures import encode, gradient, png_of_declared_size
from saliency.profiles import cmyk_profile, rgb_profile


def noise(side=120):
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (side, side, 3), dtype=np.uint8))


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def refused(path, message, **options):
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert ": " in text.removeprefix(str(path) + ": ")  # what is wrong: the cure
    return text


def test_missing(tmp_path):
    refused(tmp_path / "none.jpg", "there is no such file: check the path")


def test_folder(tmp_path):
    refused(tmp_path, "this is a folder")


def test_empty(tmp_path):
    refused(write(tmp_path, "a.jpg", b""), "the file is empty")


@pytest.mark.parametrize("data", [b"x", b"hello, world", b"\0" * 5000, b"<svg></svg>"])
def test_not_an_image(tmp_path, data):
    refused(write(tmp_path, "a.jpg", data), "not an image that Pillow can read: convert it to JPEG or PNG")


def test_heic_is_told_what_to_install(tmp_path):
    refused(write(tmp_path, "a.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "pillow_heif")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated(tmp_path, file_format, share):
    data = encode(noise(), file_format)
    path = write(tmp_path, f"a.{file_format.lower()}", data[: int(len(data) * share)])
    refused(path, "the image data (ends too early|is damaged)|not an image that Pillow can read")


def test_truncated_files_are_called_so(tmp_path):
    data = encode(noise(), "JPEG")
    refused(write(tmp_path, "a.jpg", data[: len(data) // 2]), "ends too early .*: copy or download")


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "GIF", "JPEG"])
def test_damaged_bytes_raise_only_image_errors(tmp_path, file_format):
    rng = np.random.default_rng(3)
    original = np.frombuffer(encode(noise(60), file_format), np.uint8)
    for trial in range(30):
        data = original.copy()
        places = rng.integers(0, min(len(data), 400 if trial % 2 else len(data)), 6)
        data[places] = rng.integers(0, 256, 6)
        path = write(tmp_path, "a.img", data.tobytes())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, on metadata that it can do without
                read_image(path, max_pixels=10_000_000)
        except ImageError as error:
            assert str(path) in str(error)  # noqa: PT017  (either outcome is right)


def test_too_many_pixels_are_refused_from_the_header(tmp_path):
    path = write(tmp_path, "bomb.png", png_of_declared_size(30_000, 30_000))
    refused(path, r"30000 x 30000 = 900,000,000 pixels, but max_pixels is 178,956,970")
    refused(path, "max_pixels is 1,000", max_pixels=1000)


def test_pillows_own_limit_neither_warns_nor_applies(tmp_path):
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    path = write(tmp_path, "large.png", png_of_declared_size(10_000, 10_000))  # Image.open would warn
    refused(path, "ends too early|damaged")  # so it came to decoding
    path = write(tmp_path, "larger.png", png_of_declared_size(20_000, 10_000))  # Image.open would raise
    refused(path, "ends too early|damaged", max_pixels=200_000_000)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize(
    "source",
    [
        lambda folder, image: write(folder, "a.png", encode(image)),
        lambda _, image: encode(image),
        lambda _, image: np.asarray(image),
        lambda _, image: image,
    ],
    ids=["file", "bytes", "array", "image"],
)
def test_the_limit_is_inclusive_and_holds_for_every_source(source, tmp_path):
    given = source(tmp_path, Image.fromarray(gradient(10, 10)))
    assert read_image(given, max_pixels=100).size == (10, 10)
    with pytest.raises(ImageError, match="10 x 10 = 100 pixels, but max_pixels is 99"):
        read_image(given, max_pixels=99)


def test_a_name_replaces_the_path():
    with pytest.raises(ImageError, match=r"^images\[3\]: "):
        read_image(b"nothing", name="images[3]")


def test_damaged_pillow_image(tmp_path):
    data = encode(noise(), "JPEG")
    path = write(tmp_path, "a.jpg", data[: len(data) // 2])
    with Image.open(path) as image:
        refused_name = str(path)
        with pytest.raises(ImageError, match="ends too early") as caught:
            read_image(image)
    assert str(caught.value).startswith(refused_name)


def test_no_file_stays_open(tmp_path):
    path = write(tmp_path, "a.png", encode(Image.fromarray(gradient())))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
        path.unlink()


def test_a_damaged_png_is_refused_wherever_pillow_refuses_it():
    random = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(random.integers(256, size=(40, 50, 3), dtype=np.uint8)).save(stream, "PNG")
    whole, refused = stream.getvalue(), 0
    for place in random.integers(60, len(whole) - 20, size=40):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        try:
            Image.open(io.BytesIO(damaged)).load()
        except (OSError, SyntaxError):
            refused += 1
            with pytest.raises(ImageError):
                read_image(bytes(damaged))
    assert refused > 30


def test_an_upright_image_is_not_turned_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (50, 40), "teal").save(stream, "JPEG", exif=exif)
    once = read_image(stream.getvalue())
    assert once.size == read_image(once).size == (40, 50)


@pytest.mark.slow
def test_2000_damaged_files_raise_only_image_errors(tmp_path):
    """As photographs and as masks, with bounded memory: none declares more pixels than are allowed."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(11)
    image = noise(60)
    originals = [encode(image, name) for name in ("PNG", "WEBP", "TIFF", "GIF", "JPEG", "BMP", "PPM")]
    originals += [encode(image.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    originals.append(encode(image.convert("CMYK"), "TIFF", icc_profile=cmyk_profile()))
    originals.append(encode(image, icc_profile=rgb_profile()))
    before, outcomes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {True: 0, False: 0}
    for trial in range(2000):
        data = np.frombuffer(originals[trial % len(originals)], np.uint8).copy()
        places = rng.integers(0, min(len(data), 400 if trial % 2 else len(data)), 6)
        data[places] = rng.integers(0, 256, 6)
        path = write(tmp_path, "a.img", data[: None if trial % 5 else rng.integers(1, len(data))].tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in (shown_cutout, understood_mask):
                outcomes[succeeds(read, path)] += 1
    assert min(outcomes.values()) > 200
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak - before < 500_000  # KiB; 103 MiB were measured


def succeeds(read, path):
    """Whether a file can be read; where it cannot, the error names it."""
    try:
        read(path)
    except ImageError as error:
        assert str(path) in str(error)  # noqa: PT017  (either outcome is right)
        return False
    return True


def understood_mask(path):
    return mask_of(understand_masks([ImagePair("a", path, path)]).pairs[0])


def shown_cutout(path):
    picture = read_image(path, max_pixels=10_000_000, shown=True)
    return cutout(picture, np.full((picture.height, picture.width), 200, np.uint8))
