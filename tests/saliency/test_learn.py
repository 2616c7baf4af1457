"""learn_saliency: that runs tell of pairs that are no use; how they learn stands in tests/training."""

import warnings

import pytest

import goctconv
from goctconv.saliency import learn_saliency
from goctconv.saliency.data import SkippedPairWarning
from saliency.data_sets import make_data_set, truncate

TINY = {"epochs": 1, "finetune_epochs": 0, "size": 32, "batch_size": 2, "workers": 0, "threshold": 0.9999}


def test_a_run_says_how_many_pairs_were_no_use(tmp_path):
    data = make_data_set(tmp_path / "train", 5)
    truncate(data.pairs[1].mask)
    data.pairs[3].image.write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = learn_saliency(goctconv.create_model("test_csnet"), data, **TINY)
    assert len(result.history.epochs) == 1
    told = [str(one.message) for one in caught if issubclass(one.category, SkippedPairWarning)]
    assert told[0].startswith("1 of 5 pairs cannot be used and are skipped:\n  3: ")
    assert told[1].startswith("1 is skipped: ")
    assert told[2:] == ["pairs that could not be read and were skipped: 2 (3, 1)"]


def test_nothing_to_compare_with_is_an_error(tmp_path):
    data = make_data_set(tmp_path / "train", 3)
    with pytest.raises(ValueError, match="there are no pairs"):
        learn_saliency(goctconv.create_model("test_csnet"), data, [], **TINY)
