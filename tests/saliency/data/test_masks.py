"""What files of masks mean: one rule for a data set, whatever tool has written them."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from goctconv import ArgumentError
from goctconv.saliency import DataSetError, ImageError, evaluate, find_pairs, join_pairs, split_pairs, training_loader
from goctconv.saliency.data import MaskWarning, mask_of, understand_masks
from goctconv.saliency.metrics import SaliencyMetrics
from saliency.encodings import ENCODINGS, VOC, with_palette
from saliency.pictures import gradient, save

SHAPES = {"a": (40, 50), "b": (33, 64), "c": (48, 48)}


def truths():
    """Binary masks: discs, and one of two pixels."""
    for index, (name, (height, width)) in enumerate(SHAPES.items()):
        y, x = np.ogrid[:height, :width]
        yield name, (y - 14 - 3 * index) ** 2 + (x - 20) ** 2 < 90 - 20 * index


def write(folder, encode, names=SHAPES, suffix=".png", **options):
    """Write a data set whose masks are encoded so."""
    for name, where in truths():
        if name in names:
            save(folder / "images" / f"{name}.png", gradient(*where.shape))
            (folder / "masks").mkdir(exist_ok=True)
            encode(where).save(folder / "masks" / f"{name}{suffix}", **options)
    return folder


def read(folder, foreground=None):
    return {pair.name: mask_of(pair) for pair in understand_masks(find_pairs(folder), foreground).pairs}


def findings(folder, foreground=None):
    return understand_masks(find_pairs(folder), foreground).findings


@pytest.mark.parametrize("name", ENCODINGS)
def test_masks_mean_the_same_in_every_encoding(tmp_path, name):
    found = read(write(tmp_path, ENCODINGS[name]))
    for key, where in truths():
        np.testing.assert_array_equal(found[key].levels, where * np.uint8(255))
        assert found[key].ignored is None
    assert not any(finding.is_doubt for finding in findings(tmp_path))


@pytest.mark.parametrize("name", ["P-voc", "RGB-green", "RGBA-black-on-nothing", "16-bit", "01"])
def test_training_sees_the_same_masks_in_every_encoding(tmp_path, name):
    folders = [write(tmp_path / kind, ENCODINGS[kind]) for kind in ("L", name)]
    for options in ({}, {"cache": tmp_path / "copies"}, {"shrink": 36}):
        plain, encoded = (
            next(iter(training_loader(find_pairs(folder), size=32, batch_size=3, workers=0, **options))).masks
            for folder in folders
        )
        assert torch.equal(plain, encoded)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_their_exif_data_say(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, palette = (
        read(write(tmp_path / name, ENCODINGS[name], exif=exif.tobytes()))["b"].levels for name in ("L", "P-voc")
    )
    np.testing.assert_array_equal(plain, palette)
    assert plain.shape == (SHAPES["b"] if orientation < 5 else SHAPES["b"][::-1])


def test_soft_grey_stays_as_it_is(tmp_path):
    soft = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
    for mode in ("L", "RGB", "P", "RGBA"):
        folder = write(tmp_path / mode, lambda _, mode=mode: Image.fromarray(soft).convert(mode), names="a")
        np.testing.assert_array_equal(read(folder)["a"].levels, soft)


def test_lossy_colours_are_not_foreground_where_they_are_nearly_black(tmp_path):
    folder = write(tmp_path, ENCODINGS["RGB-red"], suffix=".jpg", quality=60)
    for key, where in truths():
        assert (read(folder)[key].levels > 128)[~where].mean() < 0.05


def void(where):
    """A palette whose foreground has an outline that is neither one nor the other."""
    indices = np.where(where, np.uint8(15), np.uint8(0))
    indices[:, 30:33] = 255
    image = Image.frombytes("P", (where.shape[1], where.shape[0]), indices.tobytes())
    image.putpalette(VOC * 32)
    return image


def test_255_of_palettes_is_ignored(tmp_path):
    found = read(write(tmp_path, void))
    for key, where in truths():
        expected = np.zeros_like(where)
        expected[:, 30:33] = True
        np.testing.assert_array_equal(found[key].ignored, expected)
        np.testing.assert_array_equal(found[key].levels > 128, where & ~expected)
    assert read(tmp_path, (15, 255))["a"].ignored is None
    assert (read(tmp_path, 15)["a"].levels == found["a"].levels).all()


@pytest.mark.parametrize("protocol", ["paper", "pysodmetrics"])
def test_scores_with_ignored_pixels_are_those_without_them(protocol):
    """The outline stands in the last columns here, so that cutting them off is the same."""
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (4, 20, 30), dtype=np.uint8)
    masks = rng.integers(0, 2, (4, 20, 30), dtype=np.uint8) * 255
    ignored = np.zeros(maps.shape, bool)
    ignored[..., 24:] = True
    whole, cut, none = (SaliencyMetrics(protocol) for _ in range(3))
    whole.update(*map(torch.from_numpy, (maps, masks, ignored)))
    cut.update(*(torch.from_numpy(np.ascontiguousarray(values[..., :24])) for values in (maps, masks)))
    for name, value in cut.compute().scores().items():
        assert whole.compute().scores()[name] == pytest.approx(value, abs=1e-12 if name != "weighted_f" else 0.02)
    none.update(*map(torch.from_numpy, (maps, masks, np.zeros_like(ignored))))
    plain = SaliencyMetrics(protocol)
    plain.update(torch.from_numpy(maps), torch.from_numpy(masks))
    assert none.compute() == plain.compute()
    plain.update(*map(torch.from_numpy, (maps, masks, np.ones_like(ignored))))  # counts nothing
    assert none.compute() == plain.compute()


def test_ignored_pixels_are_nan_in_batches_and_leave_scores_alone(tmp_path):
    folder = write(tmp_path, void)
    for options in ({}, {"cache": tmp_path / "copies"}, {"cache": tmp_path / "copies"}):
        batch = next(iter(training_loader(find_pairs(folder), size=48, batch_size=3, workers=0, **options)))
        share = batch.masks.isnan().float().mean()
        assert 0.03 < share < 0.2
        assert set(batch.masks[~batch.masks.isnan()].unique().tolist()) <= {0.0, 1.0} or batch.masks.nanmean() < 1
    scores = evaluate(folder, predictions=folder / "masks", metrics=["mae"])
    assert scores.images == 3


def test_label_maps_in_grey_are_named_with_their_values(tmp_path):
    folder = write(tmp_path, lambda where: Image.fromarray(where.astype(np.uint8) * 15 + (where * 2).astype(np.uint8)))
    (finding,) = findings(folder)
    assert finding.about == "labels"
    assert finding.values == (0, 17)
    assert "the grey values 0, 17, as label maps do" in finding.text()
    assert "foreground=(1, 2)" in finding.text()
    with pytest.warns(MaskWarning, match="3 masks .a.png, b.png, c.png. have the grey values 0, 17"):
        evaluate(folder, predictions=folder / "masks", metrics=["mae"])
    assert findings(folder, 17) == ()
    for key, where in truths():
        np.testing.assert_array_equal(read(folder, 17)[key].levels > 128, where)


def test_label_maps_with_255_are_named_too(tmp_path):
    def labels(where):
        values = where.astype(np.uint8)
        values[0] = 255
        return Image.fromarray(values)

    (finding,) = findings(write(tmp_path, labels))
    assert finding.values == (0, 1, 255)


@pytest.mark.parametrize("name", ["L", "RGB-white", "16-bit", "1"])
def test_common_masks_are_no_news(tmp_path, name):
    assert findings(write(tmp_path, ENCODINGS[name])) == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tmp_path, predictions=tmp_path / "masks", metrics=["mae"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("P-voc", "3 with a palette of colours: every index but 0 is foreground, 255 is ignored (a.png, b.png, c.png)"),
        ("RGB-red", "3 in colour: what is not black is foreground (a.png, b.png, c.png)"),
        ("LA", "3 with transparency: what is opaque is foreground (a.png, b.png, c.png)"),
        ("01", "3 with the values 0 and 1 alone: 1 is foreground (a.png, b.png, c.png)"),
    ],
)
def test_other_kinds_are_named_once(tmp_path, name, text):
    (finding,) = findings(write(tmp_path / "Birds", ENCODINGS[name]))
    assert not finding.is_doubt
    assert finding.text() == f"Birds: masks: {text}"


def test_masks_that_are_understood_in_several_ways_are_named(tmp_path):
    write(tmp_path, ENCODINGS["RGB-red"], "ab")
    write(tmp_path, ENCODINGS["P-voc"], "c")
    with pytest.warns(MaskWarning, match="several ways: 2 in colour.*1 with a palette"):
        evaluate(tmp_path, predictions=tmp_path / "masks", metrics=["mae"])
    for key, where in truths():
        np.testing.assert_array_equal(read(tmp_path)[key].levels > 128, where)


def test_masks_of_0_and_1_among_others_are_errors_of_their_own(tmp_path):
    write(tmp_path, ENCODINGS["L"], "ab")
    write(tmp_path, ENCODINGS["01"], "c")
    with pytest.warns(UserWarning, match=r"highest value is 1.*--foreground 1,255"):
        assert evaluate(tmp_path, predictions=tmp_path / "masks", metrics=["mae"]).images == 2
    for key, where in truths():
        np.testing.assert_array_equal(read(tmp_path, (1, 255))[key].levels > 128, where)


def test_a_class_whose_colour_is_grey_is_foreground_as_the_others(tmp_path):
    write(tmp_path, ENCODINGS["RGB-red"], "ab")
    write(tmp_path, lambda where: Image.fromarray(np.repeat(where[..., None] * np.uint8(90), 3, axis=2)), "c")
    found = read(tmp_path)["c"].levels
    np.testing.assert_array_equal(found > 128, dict(truths())["c"])


def test_joined_data_sets_keep_their_own_rules(tmp_path):
    joined = join_pairs(write(tmp_path / "A", ENCODINGS["L"]), write(tmp_path / "B", ENCODINGS["01"]))
    pairs = understand_masks(joined).pairs
    assert len(pairs) == 6
    for pair in pairs:
        np.testing.assert_array_equal(mask_of(pair).levels > 128, dict(truths())[pair.name[-1]])


def test_parts_of_a_split_share_a_rule(tmp_path):
    known = understand_masks(find_pairs(write(tmp_path, ENCODINGS["01"]))).pairs
    assert len({pair.rule for part in split_pairs(known, 1) for pair in part}) == 1


def test_empty_masks_are_named(tmp_path):
    folder = write(tmp_path, lambda where: Image.fromarray(np.zeros(where.shape, np.uint8)))
    with pytest.warns(MaskWarning, match="all 3 masks are empty, so there is nothing to find"):
        scores = evaluate(folder, predictions=folder / "masks", metrics=["max_f", "mae"])
    assert scores.is_empty
    assert "1.0000" not in str(scores)
    assert "all with empty masks" in str(scores)
    with pytest.warns(MaskWarning, match="none of 3 masks holds a value of foreground=.9,."):
        training_loader(find_pairs(folder), foreground=9, workers=0, batch_size=1)


def test_masks_of_12_bits_that_are_empty_name_their_highest_value(tmp_path):
    folder = write(tmp_path, lambda where: Image.fromarray(where.astype(np.uint16) * 4095))
    with pytest.warns(MaskWarning, match=r"all 3 masks are empty: .* 4095 at most.* pass foreground=.4095,."):
        evaluate(folder, predictions=folder / "masks", metrics=["mae"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", MaskWarning)
        assert not evaluate(folder, predictions=folder / "masks", metrics=["mae"], foreground=4095).is_empty


def test_masks_without_background_are_named(tmp_path):
    folder = write(
        tmp_path, lambda where: Image.fromarray(np.where(where[..., None], [255, 0, 0], 255).astype("uint8"))
    )
    with pytest.warns(MaskWarning, match="every pixel of 3 masks is foreground, so there is nothing to tell apart"):
        evaluate(folder, predictions=folder / "masks", metrics=["mae"])
    for encode in (
        lambda where: Image.new("L", where.shape[::-1], 255),
        lambda where: Image.new("L", where.shape[::-1], 1),
        lambda where: Image.fromarray(np.full(where.shape, 65535, np.uint16)),
        lambda where: with_palette(where, 255, [0, 0, 0] + [200, 0, 0] * 255).point(lambda index: index or 1),
    ):
        assert "full" in {finding.about for finding in findings(write(tmp_path, encode))}
    write(tmp_path, ENCODINGS["L"], "a")
    assert "full" not in {finding.about for finding in findings(folder)}


def test_values_of_coloured_masks_cannot_be_named(tmp_path):
    write(tmp_path, ENCODINGS["RGB-red"])
    with pytest.raises(ArgumentError, match=r"foreground=.1,. are values of masks, but 3 masks are coloured"):
        evaluate(tmp_path, predictions=tmp_path / "masks", foreground=1)
    write(tmp_path, ENCODINGS["L"], "a")
    with pytest.warns(UserWarning, match="the mask is coloured, so it has no values"):
        assert evaluate(tmp_path, predictions=tmp_path / "masks", foreground=255, metrics=["mae"]).images == 1


@pytest.mark.parametrize("foreground", [-1, 1.5, "1", [70_000], [True]])
def test_foreground_is_checked(tmp_path, foreground):
    with pytest.raises(ArgumentError, match="foreground="):
        evaluate(write(tmp_path, ENCODINGS["L"]), predictions=tmp_path / "masks", foreground=foreground)


def test_what_is_no_pair_is_refused():
    with pytest.raises(TypeError, match=r"pairs=.* must be pairs of photographs and masks: pass find_pairs"):
        training_loader([("photograph.jpg", "mask.png")], workers=0, batch_size=1)


def test_unreadable_masks_do_not_decide(tmp_path):
    write(tmp_path, ENCODINGS["P-voc"])
    (tmp_path / "masks" / "b.png").write_bytes(b"no image")
    (finding,) = findings(tmp_path)
    assert finding.kinds == {"index": 2}
    data = find_pairs(tmp_path)
    only = replace(data, pairs=data.pairs[1:2])
    assert understand_masks(only).findings == ()
    with pytest.raises(DataSetError):
        training_loader(only, workers=0, batch_size=1)


def test_masks_of_more_than_8_bits_are_scaled_unless_all_are_small(tmp_path):
    folder = write(tmp_path, lambda where: Image.fromarray(where.astype(np.uint16) * 200), "a")
    assert read(folder)["a"].levels.max() == 200
    write(tmp_path, ENCODINGS["16-bit"], "bc")
    with pytest.raises(ImageError, match="highest value is 1"):
        read(folder)


SHARED = os.environ.get("GOCTCONV_SHARED")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED, reason="200 photographs: set GOCTCONV_SHARED to the folder that holds them")
def test_all_metrics_of_200_photographs_are_equal_in_every_encoding(tmp_path):
    source = Path(SHARED or "", "data", "ecssd_200")
    maps = tmp_path / "maps"
    maps.mkdir()
    masks = {
        path.name: np.asarray(Image.open(path).convert("L")) > 128 for path in sorted((source / "masks").iterdir())
    }
    rng = np.random.default_rng(0)
    for name, where in masks.items():
        Image.fromarray((rng.integers(0, 100, where.shape) + where * 120).astype(np.uint8)).save(maps / name)
    reference = None
    for encoding, encode in ENCODINGS.items():
        folder = tmp_path / encoding
        folder.mkdir()
        for name, where in masks.items():
            encode(where).save(folder / name)
        scores = evaluate(find_pairs(maps, masks=folder), predictions=True)
        reference = reference or scores
        assert scores == reference, encoding
        assert scores.images == 200
