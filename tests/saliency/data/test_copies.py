import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from goctconv.saliency import DataSetError, find_pairs
from goctconv.saliency.data import SaliencyDataset, _read
from goctconv.saliency.transforms._geometry import published_transforms
from saliency.data_sets import make_data_set


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pairs that were decoded."""
    names, read = [], _read.read_pixels

    def counted(pair, shrink):
        names.append(pair.name)
        return read(pair, shrink)

    monkeypatch.setattr(_read, "read_pixels", counted)
    return names


def data_set(tmp_path, **options):
    if not (tmp_path / "data").exists():
        make_data_set(tmp_path / "data", 3)
    options = {"size": 32, "transforms": published_transforms(), "cache": tmp_path / "cache", **options}
    return SaliencyDataset(find_pairs(tmp_path / "data"), **options)


def same(one, other):
    return all(torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) for a, b in zip(one, other, strict=True))


def all_of(dataset):
    return [dataset[index] for index in range(len(dataset))]


def copies(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize("shrink", [None, 33])
def test_copies_change_nothing_but_are_decoded_once(tmp_path, decoded, shrink):
    plain = all_of(data_set(tmp_path, cache=None, shrink=shrink))
    assert same(all_of(data_set(tmp_path, shrink=shrink)), plain)
    assert same(all_of(data_set(tmp_path, shrink=shrink)), plain)
    assert decoded == ["0", "1", "2"]
    assert len(copies(tmp_path)) == 3


def test_copies_of_other_sizes_do_not_mix(tmp_path, decoded):
    for shrink in (None, 33, 34, None):
        assert same(all_of(data_set(tmp_path, shrink=shrink)), all_of(data_set(tmp_path, shrink=shrink, cache=None)))
    assert len(decoded) == 9


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_changed_file_is_read_anew(tmp_path, decoded, kind):
    path = data_set(tmp_path).pairs[1]._asdict()[kind]
    with Image.open(path) as image:
        original = np.asarray(image)
    Image.fromarray(original).save(path, compress_level=0)
    all_of(data_set(tmp_path))
    size = path.stat().st_size
    Image.fromarray(255 - original).save(path, compress_level=0)
    assert path.stat().st_size == size
    os.utime(path, ns=(1, 1))
    decoded.clear()
    assert same(all_of(data_set(tmp_path)), all_of(data_set(tmp_path, cache=None)))
    assert decoded == ["1"]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def other_arrays(path):
    np.savez(path.open("wb"), image=np.zeros((3, 4)), mask=np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        other_arrays,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b"no copy at all"),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        lambda path: np.savez(path.open("wb"), image=np.zeros((3, 4, 3), np.uint8)),
    ],
    ids=["byte", "arrays", "empty", "cut", "text", "npy", "no mask"],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_damaged_copy_is_made_anew(tmp_path, decoded, damage):
    all_of(data_set(tmp_path))
    damaged = copies(tmp_path)[1]
    good = damaged.read_bytes()
    damage(damaged)
    decoded.clear()
    assert same(all_of(data_set(tmp_path)), all_of(data_set(tmp_path, cache=None)))
    assert len(decoded) == 1
    assert damaged.read_bytes()[:4] == good[:4]
    all_of(data_set(tmp_path))
    assert len(decoded) == 1


def test_copies_may_be_deleted_at_any_time(tmp_path, decoded):
    dataset = data_set(tmp_path)
    before = all_of(dataset)
    shutil.rmtree(tmp_path / "cache")
    assert same(all_of(dataset), before)
    assert len(decoded) == 6


def test_a_full_disk_is_told_and_survived(tmp_path, monkeypatch):
    def full(path, write):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    plain = all_of(data_set(tmp_path, cache=None))
    monkeypatch.setattr(_read, "write_atomic", full)
    with pytest.warns(UserWarning, match=r"cache: copies cannot be written \(No space left on device\)"):
        assert same(all_of(data_set(tmp_path)), plain)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataSetError, match="cache: the folder for copies cannot be made"):
        data_set(tmp_path)


def test_a_file_that_went_away_is_named(tmp_path):
    dataset = data_set(tmp_path, broken="drop")
    (tmp_path / "data" / "images" / "1.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "1.png: there is no such file" in dataset[1].skipped[0].reason
