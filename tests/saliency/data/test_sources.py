from dataclasses import replace
from pathlib import Path

import pytest

from goctconv import ArgumentError
from goctconv.saliency import DataSetError, find_pairs, join_pairs, split_pairs
from goctconv.saliency.data import DataSet, ImagePair
from saliency.data_sets import make_data_set


def pairs_named(*names):
    return tuple(ImagePair(name, Path(f"images/{name}.jpg"), Path(f"masks/{name}.png")) for name in names)


NAMES = [f"{number:04}" for number in range(200)]


def names(pairs):
    return [pair.name for pair in pairs]


def test_joined_sources_keep_all_their_pairs(tmp_path):
    one, two = make_data_set(tmp_path / "one", 2), make_data_set(tmp_path / "two", 3)
    two = replace(two, lone_masks=(Path("lonely.png"),))
    joined = join_pairs(tmp_path / "one", two)
    assert joined.name == "one+two"
    assert names(joined) == ["one/0", "one/1", "two/0", "two/1", "two/2"]
    assert [pair.image for pair in joined] == [pair.image for pair in (*one, *two)]
    assert joined.lone_masks == two.lone_masks
    assert join_pairs(str(tmp_path / "one")) == find_pairs(tmp_path / "one")


def test_sources_of_the_same_name_are_called_by_their_paths(tmp_path):
    for parent in ("a", "b"):
        make_data_set(tmp_path / parent / "SOD", 1)
    joined = join_pairs(tmp_path / "a" / "SOD", tmp_path / "b" / "SOD")
    assert names(joined) == [f"{tmp_path / parent / 'SOD'}/0" for parent in ("a", "b")]


def test_sources_that_cannot_be_joined(tmp_path):
    with pytest.raises(DataSetError, match="there is no source: pass at least one folder"):
        join_pairs()
    data = make_data_set(tmp_path / "SOD", 1)
    with pytest.raises(DataSetError, match="SOD is given twice: leave one out, or rename one"):
        join_pairs(data, data)
    with pytest.raises(DataSetError, match=r"0.png is SOD/0 and Other/0: leave one of the two sources out"):
        join_pairs(data, replace(data, name="Other"))
    with pytest.raises(DataSetError, match="no such folder or list"):
        join_pairs(data, tmp_path / "none")


@pytest.mark.parametrize(("validation", "count"), [(0.2, 40), (40, 40), (0.101, 20), (1, 1), (199, 199), (0, 0)])
def test_a_split_has_every_pair_once(validation, count):
    pairs = pairs_named(*NAMES)
    split = split_pairs(pairs, validation, seed=3)
    assert len(split.validation) == count
    assert sorted(split.train + split.validation) == list(pairs)
    assert names(split.train) == sorted(names(split.train))
    assert names(split.validation) == sorted(names(split.validation))


def test_a_split_depends_on_names_and_seed_alone():
    pairs = pairs_named(*NAMES)
    elsewhere = [pair._replace(image=Path("/far") / pair.image) for pair in reversed(pairs)]
    split = split_pairs(pairs, 0.2, seed=1)
    assert names(split_pairs(elsewhere, 0.2, seed=1).validation) == names(split.validation)
    assert names(split_pairs(DataSet("x", pairs), 0.2, seed=1).train) == names(split.train)
    other = set(names(split_pairs(pairs, 0.2, seed=2).validation))
    assert len(other & set(names(split.validation))) < 20  # by chance 8


def test_a_split_is_the_recorded_one():
    """Another one would put photographs that a saved network was trained with into its validation set."""
    assert names(split_pairs(pairs_named(*NAMES), 5).validation) == ["0013", "0094", "0104", "0107", "0110"]


def test_few_more_pairs_change_a_split_little():
    pairs = pairs_named(*NAMES)
    more = pairs_named(*NAMES, "extra-1", "extra-2")
    before, after = (set(names(split_pairs(some, 40, seed=5).validation)) for some in (pairs, more))
    assert len(before & after) >= 38


@pytest.mark.parametrize("validation", [1.0, 1.5, -0.1, -3, float("nan")])
def test_shares_of_a_split_that_are_none(validation):
    with pytest.raises(ValueError, match="must be a share from 0 to below 1, or an integer for a count"):
        split_pairs(pairs_named(*"abcd"), validation)


@pytest.mark.parametrize("validation", ["0.2", None, True])
def test_splits_of_other_types(validation):
    with pytest.raises(TypeError, match=r"must be a share such as 0\.1 or a count"):
        split_pairs(pairs_named(*"abcd"), validation)


@pytest.mark.parametrize(("validation", "taken"), [(4, 4), (9, 9), (0.01, 0), (0.99, 4)])
def test_splits_that_leave_one_side_empty(validation, taken):
    with pytest.raises(ArgumentError, match=rf"takes {taken} of 4 pairs and leaves {4 - taken}"):
        split_pairs(pairs_named(*"abcd"), validation)


def test_a_split_of_pairs_of_one_name():
    with pytest.raises(DataSetError, match=r"are both called a: join data sets with join_pairs"):
        split_pairs(pairs_named(*"abcda"))
