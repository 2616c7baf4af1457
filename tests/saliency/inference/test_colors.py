"""What is written of a photograph shows the colours and the transparency that the photograph shows in a viewer."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from goctconv.saliency import cutout, overlay, read_image
from saliency.pictures import encode, gradient
from saliency.profiles import ADOBE_RGB, SRGB, cmyk_profile, grey_profile, rgb_profile

PROFILES = {
    "none": None,
    "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "P3": rgb_profile(),
    "Adobe": rgb_profile(ADOBE_RGB, 2.2),
    "linear": rgb_profile(SRGB, 1.0),
    "grey": grey_profile(),
    "CMYK": cmyk_profile(),
    "damaged": rgb_profile()[:200],
}
SPACES = {"1": "grey", "L": "grey", "LA": "grey", "I;16": "grey", "CMYK": "CMYK"}
HEIGHT, WIDTH = 13, 17


def rgba():
    alpha = np.tile(np.linspace(0, 255, WIDTH).round(), (HEIGHT, 1)).astype(np.uint8)
    alpha[:, -5:] = 255
    return np.dstack([gradient(HEIGHT, WIDTH), alpha])


def photographs():
    """Images of every mode that files have, their formats, and how they are saved."""
    colors = Image.fromarray(gradient(HEIGHT, WIDTH))
    grey, palette = colors.convert("L"), colors.quantize(32)
    yield "RGB", colors, "PNG", {}
    yield "RGB", colors, "WEBP", {"lossless": True}
    yield "RGB", colors, "JPEG", {"quality": 100}  # YCbCr in the file
    yield "RGB", colors, "PNG", {"transparency": colors.getpixel((3, 4))}
    yield "RGBA", Image.fromarray(rgba()), "PNG", {}
    yield "RGBA", Image.fromarray(rgba()), "TIFF", {}
    yield "P", palette, "PNG", {}
    yield "P", palette, "PNG", {"transparency": bytes(8 * index if index % 2 else 255 for index in range(32))}
    yield "L", grey, "PNG", {}
    yield "L", grey, "JPEG", {"quality": 100}
    yield "L", grey, "PNG", {"transparency": grey.getpixel((3, 4))}
    yield "LA", Image.fromarray(rgba()).convert("LA"), "PNG", {}
    yield "1", colors.convert("1"), "PNG", {}
    yield "I;16", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG", {}
    yield "CMYK", colors.convert("CMYK"), "JPEG", {"quality": 100}
    yield "CMYK", colors.convert("CMYK"), "TIFF", {}


CASES = [
    pytest.param(*rest, PROFILES[name], every, id=f"{mode}-{rest[1]}-{len(rest[2])}-{name}")
    for number, (mode, *rest) in enumerate(photographs())
    for index, name in enumerate(PROFILES)
    if mode != "CMYK" or name in {"none", "CMYK", "damaged"}  # with those of other spaces viewers do different things
    # Every orientation of each kind of image, and with each profile that it can have.
    for every in [range(1, 9) if name in {"P3", SPACES.get(mode)} else (1 + (number + index) % 8,)]
]


def viewed(data):
    """Return the sRGB colours and the transparency that a viewer with colour management shows."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    profile, mode = image.info.get("icc_profile"), image.mode
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    has_alpha = "A" in mode or "transparency" in image.info
    layer = image.convert("RGBA") if has_alpha else None
    alpha = np.full((image.height, image.width), 255) if layer is None else np.asarray(layer)[..., 3]
    if mode in {"1", "LA"}:
        image = image.convert("L")
    elif mode != "CMYK" and image.mode != "L":
        image = (layer or image).convert("RGB")
    for given in (image, image.convert("RGB")):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
            target = ImageCms.createProfile("sRGB")
            return np.asarray(ImageCms.profileToProfile(given, source, target, outputMode="RGB")), alpha
    return np.asarray(image.convert("RGB")), alpha


TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


def lab(colors):
    found = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), TO_LAB)).astype(float)
    found[..., 0] *= 100 / 255
    found[..., 1:] = (found[..., 1:] + 128) % 256
    return found


def difference(first, second):
    return np.linalg.norm(lab(np.ascontiguousarray(first)) - lab(np.ascontiguousarray(second)), axis=-1)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def space(picture):
    profile = picture.info.get("icc_profile")
    return None if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


@pytest.mark.parametrize(("image", "file_format", "options", "profile", "orientations"), CASES)
def test_what_is_written_shows_what_the_photograph_shows(image, file_format, options, profile, orientations):
    for orientation in orientations:
        saved = {"exif": turned(orientation), **({"icc_profile": profile} if profile else {}), **options}
        data = encode(image, file_format, **saved)
        expected, alpha = viewed(data)
        grey = np.random.default_rng(orientation).integers(0, 256, alpha.shape, dtype=np.uint8)
        grey[:5], grey[5:8] = 255, 0
        photograph = Image.open(io.BytesIO(data)) if orientation % 2 else read_image(data, shown=True)
        written = encode(cutout(photograph, grey))
        colors, opacity = viewed(written)
        assert (opacity <= np.minimum(alpha, grey)).all()
        np.testing.assert_allclose(opacity, alpha * (grey / 255), atol=1)
        full = opacity == 255
        assert full.any()
        assert difference(colors, expected)[full].max() < 1
        picture = Image.open(io.BytesIO(written))
        assert picture.mode == "RGBA"
        assert space(picture) in {None, "RGB"}
        assert not np.asarray(picture)[opacity == 0].any()
        painted = encode(overlay(photograph, np.zeros_like(grey)))
        colors, opacity = viewed(painted)
        np.testing.assert_array_equal(opacity, alpha)
        assert difference(colors, expected)[alpha == 255].max() < 1
        assert space(Image.open(io.BytesIO(painted))) in {None, "RGB"}


@pytest.mark.parametrize("name", ["sRGB", "P3", "Adobe"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_keeps_its_profile_and_its_values(name, orientation):
    image = Image.fromarray(gradient(HEIGHT, WIDTH))
    data = encode(image, exif=turned(orientation), icc_profile=PROFILES[name])
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    for photograph in (read_image(data), read_image(data, shown=True), Image.open(io.BytesIO(data))):
        result = cutout(photograph, np.full((upright.height, upright.width), 255, np.uint8))
        assert result.info == {"icc_profile": PROFILES[name]}
        np.testing.assert_array_equal(np.asarray(result)[..., :3], np.asarray(upright))


def test_networks_see_the_values_of_the_file():
    image = Image.fromarray(gradient(HEIGHT, WIDTH))
    data = encode(image.convert("CMYK"), "TIFF", icc_profile=PROFILES["CMYK"])
    np.testing.assert_array_equal(np.asarray(read_image(data)), np.asarray(image.convert("CMYK").convert("RGB")))
    assert read_image(data).info == {}
    assert np.abs(np.asarray(read_image(data, shown=True)).astype(int) - np.asarray(image)).max() > 20


def test_lab_is_converted():
    image = Image.fromarray(gradient(HEIGHT, WIDTH))
    lab_image = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    result = cutout(Image.open(io.BytesIO(encode(lab_image, "TIFF"))), np.full((HEIGHT, WIDTH), 255, np.uint8))
    inside = (np.asarray(lab_image)[..., 0] > 0) & (np.asarray(lab_image)[..., 0] < 255)
    assert np.median(difference(np.asarray(result)[..., :3], np.asarray(image))[inside]) < 1


def test_the_photograph_itself_stays_as_it_is():
    image = Image.fromarray(rgba())
    image.info["icc_profile"] = PROFILES["P3"]
    before = image.tobytes()
    cutout(image, np.zeros((HEIGHT, WIDTH), np.uint8))
    overlay(image, np.zeros((HEIGHT, WIDTH), np.uint8))
    assert image.tobytes() == before
    assert image.info == {"icc_profile": PROFILES["P3"]}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_tiff_files_that_pillow_opens_itself(tmp_path, mode, orientation):
    path, exif = tmp_path / "photograph.tif", Image.Exif()
    exif[274] = orientation
    Image.fromarray(gradient(20, 30)).convert(mode).save(path, exif=exif)
    upright = read_image(path, shown=True)
    with Image.open(path) as photograph:
        made = cutout(photograph, np.full((upright.height, upright.width), 255, np.uint8))
        assert photograph.filename == str(path)
    np.testing.assert_array_equal(np.asarray(made.convert("RGB")), np.asarray(upright.convert("RGB")))
