"""saliency.learn: that runs tell of pairs that are no use; how they learn stands in tests/training."""

import warnings

import pytest

import goctconv
from goctconv import saliency
from goctconv.saliency import SaliencyConfig
from goctconv.saliency.data import SkippedPairWarning
from saliency.data_sets import make_data_set, truncate

TINY = SaliencyConfig(epochs=1, finetune_epochs=0, sizes=32, batch_size=2, workers=0, threshold=0.9999)


def test_a_run_says_how_many_pairs_were_no_use(tmp_path):
    data = make_data_set(tmp_path / "train", 5)
    truncate(data.pairs[1].mask)
    data.pairs[3].image.write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = saliency.learn(goctconv.create_model("test_csnet"), data, config=TINY)
    assert len(result.history.epochs) == 1
    told = [str(warning.message) for warning in caught if issubclass(warning.category, SkippedPairWarning)]
    assert told[0].startswith("1 of 5 pairs cannot be used and are skipped:\n  3: ")
    assert told[1].startswith("1 is skipped: ")
    assert told[2:] == ["pairs that could not be read and were skipped: 2 (3, 1)"]


def test_nothing_to_compare_with_is_an_error(tmp_path):
    data = make_data_set(tmp_path / "train", 3)
    with pytest.raises(ValueError, match="there are no pairs"):
        saliency.learn(goctconv.create_model("test_csnet"), data, [], TINY)


def test_options_belong_into_the_config(tmp_path):
    data = make_data_set(tmp_path / "train", 3)
    with pytest.raises(
        TypeError, match=r"epochs=3 is an option of the config: pass config=SaliencyConfig\(epochs=...\)"
    ):
        saliency.learn(goctconv.create_model("test_csnet"), data, epochs=3)
    with pytest.raises(TypeError, match=r"'callback' is none of learn\(\); did you mean 'callbacks'\?"):
        saliency.learn(goctconv.create_model("test_csnet"), data, callback=[])


def test_sizes_are_one_or_several_or_those_of_photographs():
    for given, expected in ((64, (64,)), ("own", ("own",)), ((64, 96), (64, 96)), (((64, 96),), ((64, 96),))):
        assert SaliencyConfig(sizes=given, batch_size=1).sizes == expected
    for given in (31, (), ("own", 64), "other", (64, "own"), 64.5):
        with pytest.raises(ValueError, match=r"sizes=.* must be sizes of at least 32 pixels, or 'own' alone"):
            SaliencyConfig(sizes=given, batch_size=1)
    with pytest.raises(ValueError, match=r"sizes='own' gives images of different sizes, .*: pass batch_size=1"):
        SaliencyConfig(sizes="own")
