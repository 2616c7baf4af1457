import threading
import time

import numpy as np
import pytest

from goctconv.saliency import ImageError
from goctconv.saliency.inference import Prepared, run_pipeline


def load(source):
    if source % 5 == 3:
        raise ImageError(f"{source}: bad")
    time.sleep(0.001 * (source % 3))  # so that they finish in another order
    return Prepared(np.full((3, 2, 2), source, np.float32), (source, source))


def infer(pixels):
    return [image[0] for image in pixels]


def finish(source, saliency, size):
    if source == 11:
        raise OSError("disk full")
    return source, float(saliency[0, 0]), size


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_outcomes_come_in_order_with_their_errors(batch_size, workers):
    outcomes = list(run_pipeline(range(23), load, infer, finish, batch_size=batch_size, workers=workers))
    assert [outcome.source for outcome in outcomes] == list(range(23))
    for outcome in outcomes:
        if outcome.source % 5 == 3:
            assert isinstance(outcome.error, ImageError)
        elif outcome.source == 11:
            assert isinstance(outcome.error, OSError)
        else:
            assert outcome.value == (outcome.source, outcome.source, (outcome.source, outcome.source))


def test_batches_are_full_and_bounded():
    sizes = []

    def counting(pixels):
        sizes.append(len(pixels))
        return infer(pixels)

    list(run_pipeline([0] * 21, load, counting, finish, batch_size=4, workers=2))
    assert sizes == [4, 4, 4, 4, 4, 1]


def test_nothing():
    assert list(run_pipeline([], load, infer, finish, batch_size=4, workers=2)) == []


def test_endless_sources_are_taken_as_they_are_needed():
    taken = []

    def endless():
        while True:
            taken.append(0)
            yield 0

    pipeline = run_pipeline(endless(), load, infer, finish, batch_size=4, workers=2)
    for _ in range(100):
        next(pipeline)
    pipeline.close()
    assert len(taken) < 100 + 5 * (4 + 2)


def test_other_errors_end_the_run_and_its_threads():
    def fail(_):
        raise ZeroDivisionError

    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        list(run_pipeline(range(100), load, fail, finish, batch_size=4, workers=2))
    assert not [thread for thread in {*threading.enumerate()} - before if thread.name.startswith("goctconv")]
