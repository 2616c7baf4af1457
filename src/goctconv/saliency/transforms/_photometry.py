"""Transforms of the photograph's colours, which leave the mask as it is."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._checks import ArgumentError, check_number, check_share
from ._sample import Sample, to_float

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_STRENGTH = "pass 0 for none, or 0.4 for factors from 0.6 to 1.4"


class ColorJitter:
    """Change brightness, contrast and saturation by random factors, in this order.

    Each factor is drawn evenly from 1 - strength (at least 0) to 1 + strength. Values beyond black and white are cut
    off.

    Args:
        brightness: Strength of the factor of all values.
        contrast: Of the distances from the photograph's mean grey.
        saturation: Of the distances from each pixel's grey.

    Raises:
        ArgumentError: A strength is no number of at least 0.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency.transforms import ColorJitter, Sample
        >>> sample = Sample(np.full((1, 1, 3), 100, np.uint8), np.zeros((1, 1), np.uint8), size=(64, 64))
        >>> jitter = ColorJitter(brightness=0.4, contrast=0, saturation=0)
        >>> print(jitter(sample, np.random.default_rng(0)).image.round(3))
        [[[0.435 0.435 0.435]]]
    """

    def __init__(self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4) -> None:
        self.brightness = check_number("brightness", brightness, 0, cure=_STRENGTH)
        self.contrast = check_number("contrast", contrast, 0, cure=_STRENGTH)
        self.saturation = check_number("saturation", saturation, 0, cure=_STRENGTH)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        brightness, contrast, saturation = (
            np.float32(rng.uniform(max(0.0, 1 - strength), 1 + strength))
            for strength in (self.brightness, self.contrast, self.saturation)
        )
        image = to_float(sample.image)
        if self.brightness:
            image = np.clip(image * brightness, 0, 1)
        if self.contrast:
            image = _blend(image, _grey(image).mean(), contrast)
        if self.saturation:
            image = _blend(image, _grey(image)[..., None], saturation)
        return sample._replace(image=image)

    def __repr__(self) -> str:
        return f"ColorJitter({self.brightness}, {self.contrast}, {self.saturation})"


class GaussianBlur:
    """Blur some photographs with a Gaussian of random width; at the border, the photograph is mirrored.

    Args:
        sigma: The smallest and the largest standard deviation, in pixels.
        probability: Of being blurred at all.

    Raises:
        ArgumentError: ``sigma`` does not rise from above 0, or ``probability`` is no share from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency.transforms import GaussianBlur, Sample
        >>> image = np.zeros((1, 3, 3), np.uint8)
        >>> image[0, 1] = 255
        >>> sample = Sample(image, np.zeros((1, 3), np.uint8), size=(64, 64))
        >>> print(GaussianBlur((0.5, 0.5), probability=1)(sample, np.random.default_rng(0)).image[0, :, 0].round(2))
        [0.21 0.79 0.21]
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5) -> None:
        smallest, largest = sigma
        if not 0 < smallest <= largest < math.inf:
            raise ArgumentError("sigma", sigma, "(smallest, largest) in pixels, above 0", "pass {sigma=(0.1, 2.0)}")
        self.sigma = (float(smallest), float(largest))
        self.probability = check_share("probability", probability)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        drawn, sigma = rng.random(), rng.uniform(*self.sigma)
        if drawn >= self.probability:
            return sample
        image = to_float(sample.image)
        return sample._replace(image=_blurred(_blurred(image, sigma, 0), sigma, 1))

    def __repr__(self) -> str:
        return f"GaussianBlur({self.sigma}, probability={self.probability})"


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not a matrix product: the order of its sums may depend on the number of threads.
    grey: NDArray[np.float32] = image[..., 0] * _GREY[0] + image[..., 1] * _GREY[1]
    grey += image[..., 2] * _GREY[2]
    return grey


def _blend(image: NDArray[np.float32], other: Any, factor: np.float32) -> NDArray[np.float32]:
    result: NDArray[np.float32] = image - other
    result *= factor
    result += other
    np.clip(result, 0, 1, out=result)
    return result


def _blurred(image: NDArray[np.float32], sigma: float, axis: int) -> NDArray[np.float32]:
    """Blur along one axis, with weights up to three standard deviations."""
    length, radius = image.shape[axis], math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    around = [(0, 0)] * 3
    around[axis] = (radius, radius)
    padded = np.pad(image, around, mode="reflect")

    def shifted(by: int) -> NDArray[np.float32]:
        window = [slice(None)] * 3
        window[axis] = slice(radius + by, radius + by + length)
        return padded[tuple(window)]

    result: NDArray[np.float32] = image * weights[0]
    for by in range(1, radius + 1):
        both = shifted(-by) + shifted(by)
        both *= weights[by]
        result += both
    return result
