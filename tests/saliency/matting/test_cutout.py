"""Cut-outs against composites whose alpha and colours are known."""

import ast
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import goctconv.saliency.matting
from goctconv.saliency import read_image, refine_cutout
from goctconv.saliency.matting import _clean as clean
from goctconv.saliency.matting._planes import block_mean, box_mean, from_blocks, resized, solve
from saliency.composites import composite, errors, interpolated, network_map
from saliency.pictures import encode, gradient
from saliency.profiles import cmyk_profile, rgb_profile


def of(picture):
    values = np.asarray(picture)
    return values[..., 3].astype(np.float32) / 255, values[..., :3].astype(np.float32)


def check_edges(height, width, side):
    truth = composite(3, height, width)
    probability = network_map(truth.alpha, side)
    before = errors(interpolated(probability, truth.alpha.shape), truth.photograph.astype(np.float32), truth)
    after = errors(*of(refine_cutout(truth.photograph, probability).image), truth)
    assert after.alpha < 0.7 * before.alpha
    assert after.gradient < 0.7 * before.gradient
    assert after.fringe < 0.5 * before.fringe


def test_edges_follow_the_photograph():
    check_edges(433, 577, 80)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "side"), [((866, 1154), 160), ((1732, 2308), 224)])
def test_edges_of_larger_photographs(size, side):
    check_edges(*size, side)


def two_colors(height=60, width=90):
    photograph = Image.new("RGB", (width, height), (20, 30, 120))
    photograph.paste((250, 160, 20), (30, 15, 70, 45))
    probability = np.zeros((48, 48), np.float32)
    probability[12:36, 16:37] = 0.95
    return photograph, probability


def test_an_object_of_one_color_is_cut_out_exactly():
    photograph, probability = two_colors()
    cutout = refine_cutout(photograph, probability)
    values = np.asarray(cutout.image)
    assert cutout.box == (30, 15, 70, 45)
    assert cutout.has_object == pytest.approx(0.95)
    assert abs(cutout.area - 40 * 30 / (60 * 90)) < 0.01
    assert not values[values[..., 3] == 0].any()
    assert (values[20:40, 35:65] == (250, 160, 20, 255)).all()


def test_without_an_object_the_cutout_is_empty():
    photograph, _ = two_colors()
    noise = np.random.default_rng(0).uniform(0, 0.45, (48, 48)).astype(np.float32)  # is not stretched to an object
    noise[7, 9] = 1.0  # a single pixel is none
    cutout = refine_cutout(photograph, noise)
    assert cutout.has_object < 0.5
    assert (cutout.area, cutout.box) == (0, None)
    assert not np.asarray(cutout.image).any()
    assert cutout.rendered(crop=True).size == photograph.size
    assert cutout.rendered("white").getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 2)])
@pytest.mark.parametrize("map_size", [(1, 1), (2, 5), (64, 64)])
def test_images_and_maps_of_any_size(value, size, map_size):
    cutout = refine_cutout(np.full((*size, 3), 90, np.uint8), np.full(map_size, value, np.float32))
    expected = np.full((*size, 4), (90, 90, 90, 255), np.uint8) if value else np.zeros((*size, 4))
    np.testing.assert_array_equal(np.asarray(cutout.image), expected)


def test_islands_and_holes():
    probability = np.zeros((64, 64), np.float32)
    probability[10:50, 10:50] = 0.9
    probability[56:58, 56:58] = 0.9  # an island of 2 x 2
    probability[5:9, 56:62] = 0.4  # a haze that is nowhere an object
    probability[20:24, 20:24] = 0.6  # a doubt inside
    probability[30:36, 30:36] = 0.0  # a hole
    expected = probability.copy()
    expected[56:58, 56:58] = expected[5:9, 56:62] = 0
    expected[20:24, 20:24] = 1
    np.testing.assert_array_equal(clean.cleaned(probability), expected)


def test_islands_and_holes_of_large_maps():
    probability = np.zeros((640, 640), np.float32)
    probability[100:500, 100:500] = 0.9
    probability[560:564, 560:564] = 0.9  # 1.6 pixels of the 256 at which it is looked for
    probability[200:240, 200:240] = 0.6
    expected = probability.copy()
    expected[560:564, 560:564], expected[200:240, 200:240] = 0, 1
    assert np.abs(clean.cleaned(probability) - expected).mean() < 2e-4  # as an edge of one pixel in 256


def test_a_threshold_leaves_nothing_half_transparent_inside():
    photograph, probability = two_colors()
    probability[18:28, 20:30] = 0.6
    assert np.asarray(refine_cutout(photograph, probability, threshold=0.5).image)[20:40, 35:65, 3].min() == 255
    assert refine_cutout(photograph, probability, threshold=0.97).box is None


def test_unrefined_alpha_is_the_map_interpolated():
    photograph, probability = two_colors()
    alpha = of(refine_cutout(photograph, probability, refine=None).image)[0]
    assert np.abs(alpha - interpolated(probability, (60, 90))).max() < 1 / 255


def test_nothing_becomes_more_opaque_than_it_was():
    photograph, probability = two_colors()
    alpha = np.tile(np.linspace(0, 255, 90).astype(np.uint8), (60, 1))
    photograph.putalpha(Image.fromarray(alpha))
    found = np.asarray(refine_cutout(photograph, probability).image)
    assert (found[..., 3] <= alpha).all()
    assert found[25:40, 40:60, 3].min() > 90
    assert not found[found[..., 3] == 0].any()


STORED = {  # what EXIF turns back
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["array", "file", "bytes", "image"])
def test_upright_with_its_profile(orientation, kind, tmp_path):
    photograph, probability = two_colors()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photograph if orientation == 1 else photograph.transpose(STORED[orientation])
    data = encode(stored, exif=exif, icc_profile=rgb_profile())
    path = tmp_path / "photograph.png"
    path.write_bytes(data)
    sources = {"array": np.asarray(photograph), "file": path, "bytes": data, "image": Image.open(io.BytesIO(data))}
    cutout = refine_cutout(sources[kind], probability)
    assert cutout.box == (30, 15, 70, 45)
    assert cutout.image.info == ({} if kind == "array" else {"icc_profile": rgb_profile()})
    for background, info in (("white", {}), ("blur", cutout.image.info)):
        assert cutout.rendered(background).info == info


def test_backgrounds_are_shown_in_srgb():
    photograph, probability = two_colors()
    cutout = refine_cutout(encode(photograph, icc_profile=rgb_profile()), probability)
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile())), ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(photograph, source, target)
    found = np.asarray(cutout.rendered((0, 255, 0))).astype(int)
    assert np.abs(found[20:40, 35:65] - np.asarray(shown)[20:40, 35:65]).max() <= 1
    assert (found[:10] == (0, 255, 0)).all()


def test_other_color_spaces_are_converted():
    photograph, probability = two_colors()
    data = encode(photograph.convert("CMYK"), "TIFF", icc_profile=cmyk_profile())
    cutout = refine_cutout(data, probability)
    assert cutout.image.info == {}
    expected = np.asarray(read_image(data, shown=True))
    np.testing.assert_array_equal(np.asarray(cutout.image)[20:40, 35:65, :3], expected[20:40, 35:65])


def test_a_picture_covers_the_photograph():
    photograph, probability = two_colors()
    picture = Image.new("RGB", (40, 200), "white")
    picture.paste("black", (0, 87, 40, 113))  # 26 2/3 of its rows are seen, those in the middle
    cutout = refine_cutout(photograph, probability)
    for background in (picture, encode(picture), np.asarray(picture)):
        found = np.asarray(cutout.rendered(background))
        assert (found[10:50, :20] == 0).all()
        assert (found[25:35, 40:60] == (250, 160, 20)).all()


def test_a_blurred_background_does_not_show_the_object():
    photograph, probability = two_colors()
    found = np.asarray(refine_cutout(photograph, probability).rendered("blur")).astype(int)
    assert np.abs(found[:13] - (20, 30, 120)).max() <= 2
    assert (found[25:35, 40:60] == (250, 160, 20)).all()


def test_crop():
    photograph, probability = two_colors()
    cutout = refine_cutout(photograph, probability)
    assert cutout.rendered(crop=True).size == (40, 30)
    assert cutout.rendered("white", crop=True).size == (40, 30)


@pytest.mark.parametrize("background", ["no colour", (1, 2), (300, 0, 0), 5])
def test_backgrounds_are_checked(background):
    photograph, probability = two_colors()
    with pytest.raises(ValueError, match="background="):
        refine_cutout(photograph, probability).rendered(background)


@pytest.mark.parametrize("probability", [np.zeros((2, 2, 1)), np.full((4, 4), 1.2), np.full((4, 4), np.nan), [[0.5]]])
def test_maps_are_checked(probability):
    with pytest.raises(ValueError, match="probability"):
        refine_cutout(gradient(), probability)


def test_options_are_checked():
    with pytest.raises(ValueError, match="refine='gided' must be one of 'guided', 'closed-form', None"):
        refine_cutout(gradient(), np.zeros((4, 4)), refine="gided")
    with pytest.raises(ValueError, match="threshold=2"):
        refine_cutout(gradient(), np.zeros((4, 4)), threshold=2)


def test_closed_form_needs_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymatting", None)
    with pytest.raises(ImportError, match=r"goctconv\[matting\]"):
        refine_cutout(gradient(), np.zeros((4, 4)), refine="closed-form")


@pytest.mark.slow
def test_closed_form():
    pytest.importorskip("pymatting")
    truth = composite(3, 130, 173)
    probability = network_map(truth.alpha, 48)
    before = errors(interpolated(probability, truth.alpha.shape), truth.photograph.astype(np.float32), truth)
    after = errors(*of(refine_cutout(truth.photograph, probability, refine="closed-form").image), truth)
    assert after.alpha < 0.7 * before.alpha
    assert after.fringe < 0.7 * before.fringe


def test_box_means_and_blocks():
    plane = np.random.default_rng(0).uniform(size=(7, 11)).astype(np.float32)
    padded = np.pad(plane, 2, "edge")
    expected = [[padded[y : y + 5, x : x + 5].mean() for x in range(11)] for y in range(7)]
    np.testing.assert_allclose(box_mean(plane, 2), expected, atol=1e-6)
    blocks = block_mean(plane, 3)
    assert blocks.shape == (3, 4)
    np.testing.assert_allclose(blocks[1, 2], plane[3:6, 6:9].mean(), atol=1e-6)
    assert from_blocks(blocks, 3, (7, 11)).shape == (7, 11)


def test_resized_parts_fit_together():
    plane = np.random.default_rng(0).uniform(size=(5, 9)).astype(np.float32)
    whole = resized(plane, (50, 90))
    np.testing.assert_allclose(resized(plane, (20, 30), (3, 2, 6, 4)), whole[20:40, 30:60], atol=1e-5)


def test_solve():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 3, 3))
    matrix, right = root @ root.transpose(0, 2, 1) + np.eye(3), rng.normal(size=(6, 3))
    planes = {(i, j): matrix[None, :, i, j] for i in range(3) for j in range(i, 3)}
    found = solve(planes, [right[None, :, i] for i in range(3)])
    np.testing.assert_allclose(np.stack(found, -1)[0], np.linalg.solve(matrix, right[..., None])[..., 0], rtol=1e-8)


def test_no_module_of_the_room_imports_torch():
    files = sorted(Path(goctconv.saliency.matting.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & {"torch", "timm"}, file
