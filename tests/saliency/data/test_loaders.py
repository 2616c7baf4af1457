import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from PIL import Image

from goctconv.saliency import DataSetError, preprocess, training_loader, validation_loader
from goctconv.saliency.data import EpochBatchSampler, SaliencyDataset, SaliencyLoader, SkippedPairWarning
from goctconv.saliency.transforms import ColorJitter, GaussianBlur, Resize
from goctconv.saliency.transforms._geometry import published_transforms
from saliency.data_sets import make_data_set, truncate

EVERYTHING = (*published_transforms(), Resize(), ColorJitter(), GaussianBlur())
OPTIONS = {"size": 32, "batch_size": 2, "seed": 5, "transforms": EVERYTHING}

pytestmark = [
    # Python 3.12 warns of what torch's loaders have always done on Linux.
    pytest.mark.filterwarnings("ignore:.*is multi-threaded, use of fork:DeprecationWarning"),
    # torch warns where there are fewer processors than workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data_set(tmp_path_factory.mktemp("data"), 7)


def read(loader, epoch, start=0):
    loader.set_epoch(epoch, start)
    return list(loader)


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks) and a[2:] == b[2:]
        for a, b in zip(one, other, strict=True)
    )


def numbers(sampler):
    return [[key.number for key in batch] for batch in sampler]


def sizes(sampler):
    return [[key.size for key in batch] for batch in sampler]


def test_any_number_of_workers_gives_bit_equal_batches(data):
    loaders = [training_loader(data, workers=workers, sizes=[32, 48, (40, 56)], **OPTIONS) for workers in (0, 1, 3)]
    for epoch in (0, 1, 4, 1):  # workers stay, and must learn of the epoch
        reference, *others = [read(loader, epoch) for loader in loaders]
        assert len(reference) == 3
        assert all(same(reference, other) for other in others)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_photograph_is_changed_in_another_way_in_each_epoch(data, workers):
    loader = training_loader(data, workers=workers, **OPTIONS)
    epochs = [
        {name: image for batch in read(loader, epoch) for name, image in zip(batch.names, batch.images, strict=True)}
        for epoch in (0, 1)
    ]
    shared = epochs[0].keys() & epochs[1].keys()
    assert len(shared) >= 5
    assert not any(torch.equal(epochs[0][name], epochs[1][name]) for name in shared)


def test_what_was_read_before_does_not_matter(data):
    fresh = read(training_loader(data, workers=0, **OPTIONS), 3)
    used = training_loader(data, workers=0, **OPTIONS)
    read(used, 0)
    used.set_epoch(2)
    next(iter(used))  # abandoned in the middle
    assert same(read(used, 3), fresh)


def test_an_abandoned_pass_of_workers_does_not_matter(data):
    used = training_loader(data, workers=2, **OPTIONS)
    used.set_epoch(2)
    next(iter(used))
    assert same(read(used, 3), read(training_loader(data, workers=0, **OPTIONS), 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_it_was_left(data, workers):
    loader = training_loader(data, workers=workers, sizes=[32, 48], **OPTIONS)
    whole = read(loader, 2)
    for start in range(4):
        assert same(read(loader, 2, start), whole[start:])
        assert len(loader) == 3 - start
    assert len(read(loader, 3)) == 3


def test_the_seed_matters(data):
    one, other = (training_loader(data, workers=0, **OPTIONS | {"seed": seed}) for seed in (1, 2))
    assert [batch.names for batch in read(one, 0)] != [batch.names for batch in read(other, 0)]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_random_state_is_left_alone(data, workers):
    loader = training_loader(data, workers=workers, **OPTIONS)
    state = torch.get_rng_state()
    read(loader, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_epochs_have_orders_of_their_own_and_each_image_once():
    sampler = EpochBatchSampler(24, 4, seed=1)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen.append(numbers(sampler))
        assert sorted(chain(*seen[-1])) == list(range(24))
        assert numbers(sampler) == seen[-1]
    assert seen[0] != seen[1] != seen[2]


def test_what_is_dropped_changes_from_epoch_to_epoch():
    sampler = EpochBatchSampler(11, 4)
    left_out = Counter()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        drawn = list(chain(*numbers(sampler)))
        assert len(drawn) == len(set(drawn)) == 8
        left_out.update(set(range(11)) - set(drawn))
    assert set(left_out) == set(range(11))


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (2, 3), (3, 2), (1, 4)])
def test_processes_share_the_micro_batches_of_one_that_accumulates(world_size, accumulate):
    options = {"seed": 3, "sizes": [32, 64, 96]}
    one = EpochBatchSampler(101, 4, accumulate=world_size * accumulate, **options)
    ranks = [
        EpochBatchSampler(101, 4, accumulate=accumulate, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    for epoch in (0, 7):
        for sampler in (one, *ranks):
            sampler.set_epoch(epoch)
        alone, shared = list(one), [list(rank) for rank in ranks]
        assert len({len(batches) for batches in shared}) == 1
        assert len(shared[0]) % accumulate == 0
        assert len(shared[0]) == len(ranks[0])
        assert [shared[i % world_size][i // world_size] for i in range(len(alone))] == alone
    for sampler in (one, *ranks):
        sampler.set_epoch(7, start=accumulate * (world_size if sampler is one else 1))
    assert len(one) == sum(map(len, ranks)) > 0
    assert Counter(map(tuple, one)) == Counter(tuple(batch) for rank in ranks for batch in rank)


def test_processes_share_every_image_of_a_validation():
    ranks = [
        EpochBatchSampler(11, 4, shuffle=False, drop_last=False, rank=rank, world_size=2, sizes=[32]) for rank in (0, 1)
    ]
    assert [numbers(rank) for rank in ranks] == [[[0, 1, 2, 3], [8, 9, 10]], [[4, 5, 6, 7]]]
    assert [len(rank) for rank in ranks] == [2, 1]


def test_rank_and_world_size_come_from_torch_distributed(monkeypatch):
    for name, value in (("is_initialized", True), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda *_, value=value: value)
    found = EpochBatchSampler(16, 2, seed=4)
    assert list(found) == list(EpochBatchSampler(16, 2, seed=4, rank=1, world_size=2))
    assert list(EpochBatchSampler(16, 2, seed=4, rank=0, world_size=1)) != list(found)


def test_each_batch_has_one_size_and_each_size_comes_as_often():
    sampler = EpochBatchSampler(3000, 2, sizes=[32, (40, 64), 96])
    seen = sizes(sampler)
    assert all(len(set(batch)) == 1 for batch in seen)
    count = Counter(batch[0] for batch in seen)
    assert set(count) == {(32, 32), (40, 64), (96, 96)}
    assert min(count.values()) > 430
    sampler.set_epoch(1)
    assert sizes(sampler) != seen


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size=0 must be an integer of at least 1"),
        ({"batch_size": 2.5}, TypeError, "batch_size=2.5"),
        ({"length": 0}, ValueError, "length=0"),
        ({"accumulate": 0}, ValueError, "accumulate=0"),
        ({"sizes": 224}, TypeError, r"sizes=224 must be a list of sizes: pass \[224\]"),
        ({"sizes": []}, ValueError, r"sizes=\[\] must be at least one"),
        ({"sizes": [224, 8]}, ValueError, "size=8"),
        ({"rank": 1}, ValueError, "rank=1 and world_size=None: pass both or neither"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank=2 must be an integer from 0 to 1"),
        (
            {"batch_size": 4, "accumulate": 2, "rank": 0, "world_size": 2},
            ValueError,
            r"batch_size=4 needs 16 pairs for an optimizer step x 2 to accumulate x 2 processes, but there are 10",
        ),
    ],
)
def test_wrong_arguments_of_samplers_are_named(options, error, message):
    with pytest.raises(error, match=message):
        EpochBatchSampler(**{"length": 10, "batch_size": 2, **options})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "epoch=-1"),
        ((0.5,), TypeError, "epoch=0.5"),
        ((0, 6), ValueError, "start=6 must be an integer from 0 to 5"),
        ((0, None), TypeError, "start=None"),
    ],
)
def test_places_of_samplers_that_are_none(arguments, error, message):
    sampler = EpochBatchSampler(10, 2)
    with pytest.raises(error, match=message):
        sampler.set_epoch(*arguments)
    assert (sampler.epoch, sampler.start) == (0, 0)


@pytest.fixture
def broken(tmp_path):
    """Pair 1 has an empty mask, and the photograph of pair 4 is damaged behind its header."""
    data = make_data_set(tmp_path / "broken", 6)
    data.pairs[1].mask.write_bytes(b"")
    photograph = data.pairs[4].image
    with Image.open(photograph) as image:
        jpeg = photograph.with_suffix(".jpg")
        image.save(jpeg, quality=95)
    truncate(jpeg, 0.9)
    pairs = (*data.pairs[:4], data.pairs[4]._replace(image=jpeg), data.pairs[5])
    return replace(data, pairs=pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_replaces_broken_pairs_and_says_how_many(broken, workers):
    with pytest.warns(
        SkippedPairWarning, match=r"1 of 6 pairs cannot be used and are skipped:\n  1: .*1.png: the file is"
    ):
        loader = training_loader(broken, workers=workers, **OPTIONS | {"batch_size": 5})
    assert set(loader.skipped) == {"1"}
    with pytest.warns(SkippedPairWarning, match=r"4 is skipped: .*4.jpg: the image data ends too early") as caught:
        batches = read(loader, 0) + read(loader, 1)
    assert len(caught) == 1
    assert set(loader.skipped) == {"1", "4"}
    for batch in batches:
        assert sorted(Path(name).name for name in batch.names) == ["0.png", "2.png", "3.png", "5.png", "5.png"]
        assert batch.images.shape == (5, 3, 32, 32)
        assert len({image.sum().item() for image in batch.images}) == 5  # the stand-in has random numbers of its own


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_drops_broken_pairs_and_has_the_others_once(broken, workers):
    with pytest.warns(SkippedPairWarning, match="1 of 6 pairs"):
        loader = validation_loader(broken, size=32, batch_size=1, workers=workers)
    with pytest.warns(SkippedPairWarning, match="4 is skipped"):
        batches = list(loader)
    assert [Path(batch.names[0]).name for batch in batches] == ["0.png", "2.png", "3.png", "5.png"]
    assert set(loader.skipped) == {"1", "4"}
    for batch in batches:
        torch.testing.assert_close(batch.images, preprocess(batch.names[0], 32), atol=5e-6, rtol=0)


def test_validation_is_the_same_in_every_epoch(data):
    loader = validation_loader(data, size=32, batch_size=3, workers=0)
    first = read(loader, 0)
    assert [len(batch.names) for batch in first] == [3, 3, 1]
    assert same(read(loader, 9), first)


def test_many_broken_pairs_are_told_in_one_warning(data):
    away = [pair._replace(mask=pair.mask.with_name("none.png")) for pair in data]
    with pytest.warns(SkippedPairWarning, match=r"(?s)6 of 7 pairs cannot be used.*4: .*\n  and 1 more") as caught:
        loader = validation_loader([*away[:6], data.pairs[6]], size=32, workers=0)
    assert len(caught) == 1
    assert len(loader.skipped) == 6
    with pytest.raises(
        DataSetError, match=r"none of the 7 pairs can be used, such as .*none.png: there is no such file"
    ):
        training_loader(away, workers=0)
    with pytest.raises(DataSetError, match="there are no pairs of photographs and masks"):
        training_loader([])


def test_batches_move_to_devices(data):
    batch = read(training_loader(data, workers=0, **OPTIONS), 0)[0]
    moved = batch.to("meta")
    assert (moved.images.device.type, moved.masks.device.type, moved.names) == ("meta", "meta", batch.names)
    assert batch.images.device.type == "cpu"


@pytest.mark.parametrize(("workers", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_wrong_numbers_of_workers_are_named(workers, error, data):
    with pytest.raises(error, match=f"workers={workers}"):
        SaliencyLoader(SaliencyDataset(data), EpochBatchSampler(7, 1), workers=workers)


def test_fewer_pairs_than_a_step_takes(data):
    with pytest.raises(ValueError, match=r"batch_size=24 needs 24 pairs for an optimizer step, but there are 7"):
        training_loader(data)


def test_transforms_may_be_left_out(data):
    loader = training_loader(data, workers=0, **OPTIONS | {"transforms": ()})
    for batch in read(loader, 0):
        expected = torch.cat([preprocess(name, 32) for name in batch.names])
        torch.testing.assert_close(batch.images, expected, atol=5e-6, rtol=0)


ENDING = """
import sys
from goctconv.saliency import find_pairs, training_loader
from goctconv.saliency.data import _loaders
_loaders._GRACE = 300
loader = training_loader(find_pairs(sys.argv[1]), size=32, batch_size=2, workers=1)
kept = list(loader)
loader.itself = loader  # a cycle, which is still there when the program ends
"""


def test_a_program_that_ends_does_not_wait_for_its_workers(tmp_path):
    """They outlive SIGTERM, by which multiprocessing ends what is left."""
    make_data_set(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # else it would come after 300 seconds


def test_a_closed_loader_can_be_used_again(tmp_path):
    loader = training_loader(make_data_set(tmp_path), size=32, batch_size=2, workers=1)
    first = [batch.images for batch in loader]
    loader.close()
    loader.close()
    assert all(torch.equal(one, other.images) for one, other in zip(first, loader, strict=True))
    loader.close()
