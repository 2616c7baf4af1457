"""Photographs through a network: preprocessing, then decoding, the network and encoding at the same time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from .._resize import MEAN, MIN_SIZE, STD, check_size, resize_photograph
from ..data import MAX_PIXELS, ImageError, ImageLike, read_image
from ._network import Map


class Prepared(NamedTuple):
    """A photograph as the network takes it, and the (height, width) it had."""

    pixels: Map
    size: tuple[int, int]


def prepare(
    image: ImageLike, size: tuple[int, int] | None, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Prepared:
    """Read, resize and normalise one image; ``pixels`` has shape (3, height, width); with no size, its own."""
    photograph = read_image(image, max_pixels=max_pixels, name=name)
    height, width = size or (max(photograph.height, MIN_SIZE), max(photograph.width, MIN_SIZE))
    scaled = resize_photograph(photograph, (height, width))
    pixels = np.empty((3, height, width), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        plane = scaled[..., channel] - 255 * mean
        np.multiply(plane, 1 / (255 * std), out=pixels[channel], casting="same_kind")
    return Prepared(pixels, (photograph.height, photograph.width))


def preprocess(image: ImageLike, size: int | Sequence[int] = 224) -> Tensor:
    """Turn an image into a batch of one for a saliency network, as published.

    RGB / 255, resized bilinearly without antialiasing, ImageNet's mean and standard deviation, in float64 until the
    last step.

    Args:
        image: What `read_image` takes.
        size: The network's input size: one integer or (height, width), at least 32.

    Returns:
        A float32 tensor of shape (1, 3, height, width).

    Raises:
        ImageError: The image cannot be read.
        ArgumentError: ``size`` is no size.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency import preprocess
        >>> preprocess(np.zeros((30, 40, 3), dtype=np.uint8), size=64).shape
        torch.Size([1, 3, 64, 64])
    """
    return torch.from_numpy(prepare(image, check_size(size)).pixels).unsqueeze(0)


S = TypeVar("S")
R = TypeVar("R")

_FAILURES = (ImageError, OSError, MemoryError)  # concern one image; anything else ends the run


@dataclass(frozen=True)
class Outcome(Generic[S, R]):
    """What became of one image: a value, or an error."""

    source: S
    value: R | None = None
    error: Exception | None = None


def attempt(source: S, make: Callable[[], R]) -> Outcome[S, R]:
    """Return what became of an image; unreadable ones, failed writes and exhausted memory are reported in it."""
    try:
        return Outcome(source, make())
    except _FAILURES as error:
        return Outcome(source, error=error)


def run_pipeline(
    sources: Iterable[S],
    load: Callable[[S], Prepared],
    infer: Callable[[Sequence[Map]], Sequence[Map]],
    finish: Callable[[S, Map, tuple[int, int]], R],
    *,
    batch_size: int,
    workers: int,
) -> Generator[Outcome[S, R], None, None]:
    """Run images through a network and yield what became of each, in order.

    ``load`` reads and preprocesses an image; ``infer`` maps at most ``batch_size`` of these inputs to their maps;
    ``finish`` makes the result of an image from its map and its (height, width). ``load`` and ``finish`` run in
    threads, ``infer`` and the iteration over ``sources`` in the caller's. At most a few batches are in memory at any
    time. Closing the generator waits for the images under way and drops the rest.
    """
    remaining = iter(sources)
    loading: deque[tuple[S, Future[Prepared]]] = deque()
    finishing: deque[tuple[S, Future[R]]] = deque()
    ahead = batch_size + workers  # decoded while the network is busy with a batch
    executor = ThreadPoolExecutor(workers, thread_name_prefix="goctconv")
    try:
        while True:
            for source in islice(remaining, ahead + batch_size - len(loading)):
                loading.append((source, executor.submit(load, source)))
            if not loading:
                break
            batch = [loading.popleft() for _ in range(min(batch_size, len(loading)))]
            loaded = [attempt(source, future.result) for source, future in batch]
            inputs = [read.value.pixels for read in loaded if read.value is not None]
            maps = iter(infer(inputs) if inputs else ())
            for read in loaded:
                if read.value is not None:
                    result = executor.submit(finish, read.source, next(maps), read.value.size)
                else:
                    result = Future()
                    result.set_exception(read.error)
                finishing.append((read.source, result))
            while len(finishing) > ahead:
                source, result = finishing.popleft()
                yield attempt(source, result.result)
        while finishing:
            source, result = finishing.popleft()
            yield attempt(source, result.result)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
