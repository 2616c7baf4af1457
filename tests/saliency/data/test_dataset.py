import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch.utils.data import DataLoader

from goctconv.saliency import DataSetError, ImageError, preprocess
from goctconv.saliency.data import ImagePair, SaliencyDataset, TensorPair, check_pairs, collate
from goctconv.saliency.data._sampler import Purpose, generator
from goctconv.saliency.inference import resize_bilinear
from goctconv.saliency.transforms import ColorJitter, GaussianBlur, Resize, Sample
from goctconv.saliency.transforms._geometry import published_transforms
from saliency.data_sets import make_data_set, make_pair, photograph, size_of, truncate
from saliency.pictures import encode, png_of_declared_size

EVERYTHING = (*published_transforms(), Resize(), ColorJitter(), GaussianBlur())


def picture(height=40, width=50, mode="RGB"):
    image, mask = photograph(0, height, width)
    return Image.fromarray(image if mode == "RGB" else mask)


def same(one, other):
    return torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask) and one[2:] == other[2:]


def mask_from_image(example):
    """The mask that the photograph's first channel says, where nothing changed the colours."""
    return example.image[:1] * 0.229 + 0.485


def test_without_transforms_photographs_are_prepared_as_for_inference(tmp_path):
    data = make_data_set(tmp_path)
    dataset = SaliencyDataset(data, size=(48, 64))
    assert len(dataset) == len(data) == 6
    for index, pair in enumerate(data):
        example = dataset[index]
        torch.testing.assert_close(example.image, preprocess(pair.image, (48, 64))[0], rtol=0, atol=5e-6)
        mask = resize_bilinear(photograph(index, *size_of(index))[1], (48, 64)) / 255
        np.testing.assert_allclose(example.mask[0], mask, atol=1e-6)
        assert (example.name, example.skipped) == (str(pair.image), ())
        assert example.image.dtype == example.mask.dtype == torch.float32


def test_masks_go_through_the_transforms_of_their_photographs(tmp_path):
    dataset = SaliencyDataset(make_data_set(tmp_path), size=48, transforms=published_transforms())
    for index in range(6):
        torch.testing.assert_close(dataset[index].mask, mask_from_image(dataset[index]), atol=1e-5, rtol=0)


def test_an_example_depends_on_seed_epoch_and_index_alone(tmp_path):
    data = make_data_set(tmp_path)

    def example(seed, epoch, index, read_before=()):
        dataset = SaliencyDataset(data, size=32, transforms=EVERYTHING, seed=seed)
        for other in read_before:
            dataset[other]
        dataset.set_epoch(epoch)
        return dataset[index]

    reference = example(1, 2, 3)
    assert same(reference, example(1, 2, 3, read_before=(0, 3, 3)))
    assert same(reference, example(1, 2, 3 - 6))
    for other in ((2, 2, 3), (1, 3, 3), (1, 0, 3)):
        assert not torch.equal(reference.image, example(*other).image)


def test_each_place_has_random_numbers_of_its_own():
    """NumPy takes the seeds [1, 2] and [1, 2, 0] for the same: order, sizes and transforms must not share numbers."""
    places = [
        (purpose, seed, epoch, index) for purpose in Purpose for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)
    ]
    drawn = {tuple(generator(*place).integers(2**32, size=4)) for place in places}
    assert len(drawn) == len(places)


def test_a_data_set_can_be_sent_to_another_process(tmp_path):
    dataset = SaliencyDataset(
        make_data_set(tmp_path / "data"), size=32, transforms=EVERYTHING, cache=tmp_path / "cache"
    )
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301  (our own bytes)
    assert same(copy[1], dataset[1])


def test_ordinary_samplers_work_too(tmp_path):
    dataset = SaliencyDataset(make_data_set(tmp_path), size=32)
    batches = list(DataLoader(dataset, batch_size=4, collate_fn=collate))
    assert [batch.images.shape[0] for batch in batches] == [4, 2]
    assert torch.equal(batches[1].masks[0], dataset[4].mask)
    with pytest.raises(IndexError, match="index 6 of 6 pairs"):
        dataset[6]
    with pytest.raises(IndexError, match="index -7 of 6 pairs"):
        dataset[-7]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_and_masks_are_compared_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright, mask = picture(), picture(mode="L")
    turns = {1: 0, 3: 180, 6: 90, 8: 270}  # how far a viewer does not turn it back
    stored = upright.rotate(turns[orientation], expand=True)
    stream = io.BytesIO()
    stored.save(stream, "PNG", exif=exif)
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    mask.save(tmp_path / "b.png")
    pair = ImagePair("a", tmp_path / "a.png", tmp_path / "b.png")
    assert check_pairs([pair]).skipped == ()
    example = SaliencyDataset([pair], size=48, broken="raise")[0]
    torch.testing.assert_close(example.mask, mask_from_image(example), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "I;16"])
def test_masks_of_any_mode(tmp_path, mode):
    levels = np.zeros((40, 50), dtype=np.uint8)
    levels[10:30, 20:] = 255
    mask = Image.fromarray(levels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(levels).convert(mode)
    example = SaliencyDataset([make_pair(tmp_path, picture(), mask)], size=(40, 50), broken="raise")[0]
    np.testing.assert_array_equal(example.mask[0], levels / 255)


def broken_pairs(folder):
    """Pairs that cannot be used, with a part of what is said of each; those that headers do not show come last."""
    good, mask = picture(), picture(mode="L")
    binary = Image.fromarray((np.asarray(mask) > 128).astype(np.uint8))
    found = {
        "empty": (make_pair(folder, good, b"", "empty"), "empty-mask.png: the file is empty (0 bytes)"),
        "text": (make_pair(folder, b"hello", mask, "text"), "text-image.png: this is not an image"),
        "other": (
            make_pair(folder, good, picture(50, 40, "L"), "other"),
            "other-image.png is 50 x 40, its mask {}other-mask.png 40 x 50: they must be equally large",
        ),
        "huge": (make_pair(folder, png_of_declared_size(30000, 30000), mask, "huge"), "but max_pixels is"),
        "missing": (
            ImagePair("missing", folder / "missing.png", folder / "missing.png"),
            "missing.png: there is no such file",
        ),
        "short": (
            make_pair(folder, encode(good, "JPEG"), mask, "short"),
            "short-image.png: the image data ends too early",
        ),
        "binary": (make_pair(folder, good, binary, "binary"), "mask's highest value is 1, expected 0 to 255: multiply"),
    }
    truncate(found["short"][0].image, 0.9)
    return {name: (pair, text.format(f"{folder}/")) for name, (pair, text) in found.items()}


BROKEN = ["empty", "text", "other", "huge", "missing", "short", "binary"]


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("cached", [False, True])
def test_broken_pairs_are_named_and_replaced_dropped_or_raised(tmp_path, kind, cached):
    pair, text = broken_pairs(tmp_path / "broken")[kind]
    good = make_pair(tmp_path / "good", picture(), picture(mode="L"))
    options = {"size": 32, "cache": tmp_path / "cache" if cached else None, "transforms": EVERYTHING}
    dataset = SaliencyDataset([pair, good, pair], **options)
    for index, times in ((0, 1), (2, 2), (1, 0)):
        example = dataset[index]
        assert example.name == str(good.image)
        assert [skipped.name for skipped in example.skipped] == [kind] * times
        assert all(text in skipped.reason for skipped in example.skipped)
    dropped = SaliencyDataset([pair, good], broken="drop", **options)
    batch = collate([dropped[0], dropped[1]])
    assert batch.names == (str(good.image),)
    assert batch.images.shape == (1, 3, 32, 32)
    assert [skipped.name for skipped in batch.skipped] == [kind]
    none_left = collate([dropped[0]])
    assert (none_left.images.shape, none_left.masks.shape) == ((0, 3, 32, 32), (0, 1, 32, 32))
    with pytest.raises(ImageError) as caught:
        SaliencyDataset([pair, good], broken="raise", **options)[0]
    assert text in str(caught.value)
    if kind != "binary":  # of which alone 1 is foreground
        with pytest.raises(DataSetError, match="none of the 2 pairs can be read, such as "):
            SaliencyDataset([pair, pair], **options)[0]


def test_headers_tell_which_pairs_cannot_be_used(tmp_path):
    broken = broken_pairs(tmp_path / "broken")
    good = make_pair(tmp_path / "good", picture(), picture(mode="L"))
    pairs, skipped = check_pairs([broken["empty"][0], good, *(broken[kind][0] for kind in BROKEN[1:])])
    assert [pair.name for pair in pairs] == ["pair", "short", "binary"]
    assert [one.name for one in skipped] == BROKEN[:5]
    assert all(broken[one.name][1] in one.reason for one in skipped)


def test_shrinking_keeps_small_photographs_and_makes_large_ones_smaller(tmp_path):
    seen = []

    def note(sample, _):
        seen.append(sample.mask.shape)
        return sample

    def sizes(dataset):
        seen.clear()
        return [dataset[index] for index in range(len(dataset))], list(seen)

    smooth = picture().resize((800, 600), Image.Resampling.BICUBIC)
    pairs = [
        make_pair(tmp_path, picture(), picture(mode="L"), "small"),
        make_pair(tmp_path, encode(smooth, "JPEG", quality=95), smooth.getchannel(0), "jpeg"),
        make_pair(tmp_path, smooth, smooth.getchannel(0), "png"),
    ]
    plain, full_sizes = sizes(SaliencyDataset(pairs, size=48, transforms=[note]))
    shrunk, small_sizes = sizes(SaliencyDataset(pairs, size=48, shrink=100, transforms=[note]))
    assert full_sizes == [(40, 50), (600, 800), (600, 800)]
    assert small_sizes == [(40, 50), (100, 133), (100, 133)]
    for one, other in zip(shrunk, plain, strict=True):
        torch.testing.assert_close(one.image, other.image, atol=0.1, rtol=0)
        torch.testing.assert_close(one.mask, other.mask, atol=0.02, rtol=0)
    assert torch.equal(shrunk[0].image, plain[0].image)


def test_jpeg_files_are_shrunk_in_part_while_they_are_decoded(tmp_path, monkeypatch):
    draft, sizes = JpegImageFile.draft, []

    def spy(image, mode, size):
        result = draft(image, mode, size)
        sizes.append(image.size)
        return result

    monkeypatch.setattr(JpegImageFile, "draft", spy)
    smooth = picture().resize((800, 600), Image.Resampling.BICUBIC)
    pair = make_pair(tmp_path, encode(smooth, "JPEG"), smooth.getchannel(0))
    SaliencyDataset([pair], size=48, shrink=100, broken="raise")[0]
    SaliencyDataset([pair], size=48, broken="raise")[0]
    assert sizes == [(200, 150)]


@pytest.mark.parametrize("orientation", [1, 6])
def test_shrinking_turned_photographs(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = picture().resize((800, 600), Image.Resampling.BICUBIC)
    stored = smooth.rotate(90 if orientation == 6 else 0, expand=True)
    pair = make_pair(tmp_path, encode(stored, "JPEG", quality=95, exif=exif), smooth.getchannel(0))
    example = SaliencyDataset([pair], size=48, shrink=64, broken="raise")[0]
    torch.testing.assert_close(example.mask, mask_from_image(example), atol=0.02, rtol=0)


def bad(image=None, mask=None):
    def transform(sample, _):
        return sample._replace(
            image=sample.image if image is None else image, mask=sample.mask if mask is None else mask
        )

    return transform


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (lambda sample, _: sample.image, TypeError, "returned ndarray, expected a Sample"),
        (
            bad(mask=np.zeros((3, 4), np.uint8)),
            ValueError,
            r"and a mask of shape \(3, 4\).*move, cut and resize both",
        ),
        (bad(image=np.zeros((37, 61), np.uint8)), ValueError, r"a photograph of shape \(37, 61\)"),
        (
            bad(image=np.zeros((37, 61, 3))),
            ValueError,
            r"a photograph of type float64 .* expected uint8 \(0 to 255\) or",
        ),
        (bad(mask=np.zeros((37, 61), bool)), ValueError, "a mask of type bool"),
    ],
)
def test_transforms_that_part_mask_and_photograph_are_refused(tmp_path, transform, error, message):
    dataset = SaliencyDataset(make_data_set(tmp_path, 1), size=32, transforms=[transform])
    with pytest.raises(error, match=message):
        dataset[0]


def test_own_transforms(tmp_path):
    def negative(sample, rng):
        assert isinstance(sample, Sample)
        return sample._replace(image=255 - sample.image) if rng.random() < 2 else sample

    data = make_data_set(tmp_path, 1)
    example = SaliencyDataset(data, size=32, transforms=[negative])[0]
    torch.testing.assert_close(mask_from_image(example), 1 - example.mask, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 16}, ValueError, "each at least 32"),
        ({"seed": -1}, ValueError, "seed=-1 must be an integer from 0 to "),
        ({"seed": 1.5}, TypeError, "seed=1.5"),
        ({"shrink": 0}, ValueError, "shrink=0 must be an integer of at least 1"),
        ({"transforms": Resize()}, TypeError, r"transforms=Resize\(\) must be several transforms: pass a list"),
        ({"transforms": [Resize]}, TypeError, "must be functions of"),
        ({"broken": "skip"}, ValueError, "broken='skip' must be one of 'replace', 'drop', 'raise'"),
    ],
)
def test_wrong_arguments_are_named(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        SaliencyDataset(make_data_set(tmp_path, 1), **options)


def test_wrong_data_and_epochs_are_named(tmp_path):
    with pytest.raises(DataSetError, match="there are no pairs"):
        SaliencyDataset([])
    with pytest.raises(ValueError, match="epoch=-1"):
        SaliencyDataset(make_data_set(tmp_path, 1)).set_epoch(-1)


def test_batches_of_different_sizes_are_refused():
    examples = [TensorPair(torch.zeros(3, side, 32), torch.zeros(1, side, 32), "a") for side in (32, 64)]
    with pytest.raises(ValueError, match=r"sizes=\[\(32, 32\), \(64, 32\)\] must be one size"):
        collate(examples)
