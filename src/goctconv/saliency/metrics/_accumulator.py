"""Metrics of images, added up over a data set."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from ..._checks import ArgumentError, ArgumentTypeError
from ._counts import Floats, Histograms, count_levels, to_counted, to_levels
from ._measures import Confusion, adaptive_counts, e_measure, f_measure, precision_recall, s_measure, threshold_counts
from ._protocol import Protocol, get_protocol
from ._results import METRICS, SaliencyScores, Sums, check_metrics, summarize
from ._weighted_f import load_scipy, weighted_f


class SaliencyMetrics:
    """Metrics of salient object detection, added up batch by batch.

    One pass counts the pixels of each level, on the device where the maps lie, and nearly all metrics follow from
    the counts; the weighted F alone looks at each image again, on the CPU. Sums are kept in float64. Objects can be
    pickled and copied, so several processes can share the work: each updates its own, then one merges them all.

    Args:
        protocol: "paper", "pysodmetrics", or a `Protocol`.
        metrics: Names of those to compute, all of them by default: "max_f", "mean_f", "adaptive_f", "weighted_f",
            "s_measure", "max_e", "mean_e", "adaptive_e", "mae". "weighted_f" needs the extra ``[eval]``.

    Raises:
        ImportError: "weighted_f" is asked for and scipy is not installed.
        ArgumentError: The protocol or a metric is unknown.

    Example:
        >>> import torch
        >>> from goctconv.saliency.metrics import SaliencyMetrics
        >>> metrics = SaliencyMetrics(metrics=["max_f", "mae"])
        >>> for _ in range(2):
        ...     metrics.update(torch.full((3, 1, 5, 7), 0.8), torch.ones(3, 1, 5, 7, dtype=torch.bool))
        >>> round(metrics.compute().mae, 6)
        0.2
    """

    def __init__(self, protocol: str | Protocol = "paper", metrics: Sequence[str] | None = None) -> None:
        self.protocol = get_protocol(protocol)
        self.metrics = check_metrics(tuple(METRICS) if metrics is None else metrics)
        if "weighted_f" in self.metrics:
            load_scipy()
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._images = self._empty_masks = 0
        self._sums: Sums = {}

    @property
    def images(self) -> int:
        """How many images have been counted."""
        return self._images

    @torch.no_grad()
    def update(self, prediction: Tensor, mask: Tensor, ignored: Tensor | None = None) -> None:
        """Count a batch of maps against their masks.

        Args:
            prediction: Of shape (H, W), (B, H, W) or (B, 1, H, W): probabilities from 0 to 1, or 8-bit levels (uint8).
            mask: The same size; bool, 8-bit levels (uint8, 0 to 255), or floating point from 0 to 1.
            ignored: The same size, bool: pixels that count in no metric, as if the image did not have them. An image
                that has no others is not counted.

        Raises:
            ArgumentError: One is no tensor of such a type, sizes differ, or values are out of range or not a number.
                Nothing is counted then.
        """
        levels, masks = to_levels(prediction, mask, self.protocol.rounding)
        counted = None if ignored is None else to_counted(ignored, levels)
        if counted is not None:
            some = counted.flatten(1).any(dim=1)
            levels, masks, counted = levels[some], masks[some], counted[some]
            if not len(levels):
                return
        scores = score_images(levels, masks, self.protocol, self.metrics, counted)
        empty = scores.pop("empty")
        weights = 1 - empty if self.protocol.empty_masks == "skip" else np.ones_like(empty)
        for name, values in scores.items():
            total = values.sum(axis=0) if name == "mae" else np.einsum("b,b...->...", weights, values)
            self._sums[name] = self._sums.get(name, 0) + total
        self._images += len(empty)
        self._empty_masks += int(empty.sum())

    def compute(self) -> SaliencyScores:
        """Return the metrics of all images so far.

        Returns:
            An immutable dataclass; ``print`` shows its metrics as a table, ``scores()`` returns them by name,
            ``titled()`` by their titles, and ``to_dict()`` returns everything for JSON. Its attributes:

            - ``protocol``: how they were computed;
            - ``images``: the number of maps that they average;
            - ``empty_masks``: the number of their masks without foreground;
            - ``max_f``, ``mean_f``: the largest and the mean F over the thresholds;
            - ``adaptive_f``: F at twice each map's mean;
            - ``weighted_f``: the F of Margolin et al. (2014);
            - ``s_measure``: the structure measure of Fan et al. (2017);
            - ``max_e``, ``mean_e``: the largest and the mean enhanced-alignment measure of Fan et al. (2018) over the
              thresholds;
            - ``adaptive_e``: the same measure at twice each map's mean;
            - ``mae``: the mean absolute error;
            - ``curves``: averages over the data set at each threshold, as tuples: ``thresholds`` (8-bit levels,
              ascending), ``precision`` (the share of the predicted pixels that are right), ``recall`` (the share of the
              objects' pixels that are predicted), ``f``, and ``e`` (the E-measure, None if it was not asked for);
              ``curves.to_dict()`` returns them as lists.

            Metrics that were not asked for are None.

        Raises:
            ArgumentError: There are no images yet, or none that counts.
        """
        if not self._images:
            raise ArgumentError("images", 0, "at least 1", "call update(prediction, mask) first")
        if self.protocol.empty_masks == "skip" and self._images == self._empty_masks:
            problem = f"skips the masks of all {self._images} images, which are empty"
            cure = 'check the masks, or take a protocol with {empty_masks="count"}'
            raise ArgumentError("protocol", self.protocol.name, problem=problem, cure=cure)
        return summarize(self.protocol, self.metrics, self._images, self._empty_masks, self._sums)

    def merge(self, other: "SaliencyMetrics") -> Self:
        """Add the images that another object has counted.

        Returns:
            This object, which has changed; ``other`` has not.

        Raises:
            ArgumentError: ``other`` is something else, or its protocol or its metrics differ.
        """
        if not isinstance(other, SaliencyMetrics):
            raise ArgumentTypeError("other", other, "SaliencyMetrics")
        self._check_same(other.protocol, other.metrics)
        state = other.state_dict()
        for name, values in state["sums"].items():
            self._sums[name] = self._sums.get(name, 0) + values.numpy()
        self._images += state["images"]
        self._empty_masks += state["empty_masks"]
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, which ``torch.load(weights_only=True)`` accepts."""
        return {
            "protocol": self.protocol.to_dict(),
            "metrics": list(self.metrics),
            "images": self._images,
            "empty_masks": self._empty_masks,
            "sums": {name: torch.as_tensor(values, dtype=torch.float64).clone() for name, values in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ArgumentError: It is of another protocol or other metrics.
        """
        self._check_same(Protocol(**state["protocol"]), tuple(state["metrics"]))
        self._images, self._empty_masks = int(state["images"]), int(state["empty_masks"])
        self._sums = {name: values.cpu().numpy().copy() for name, values in state["sums"].items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(protocol={self.protocol.name!r}, metrics={self.metrics}, images={self._images})"

    def _check_same(self, protocol: Protocol, metrics: tuple[str, ...]) -> None:
        if protocol != self.protocol:
            problem = f"is [{protocol}], here it is [{self.protocol}]; their numbers cannot be averaged"
            raise ArgumentError("protocol", protocol.name, problem=problem, cure="evaluate all images by one protocol")
        if metrics != self.metrics:
            cure = "construct all with the same metrics"
            raise ArgumentError("metrics", metrics, f"{self.metrics} as they are here", cure)


def score_images(
    levels: Tensor, masks: Tensor, protocol: Protocol, metrics: Collection[str], counted: Tensor | None = None
) -> dict[str, Floats]:
    """Return what each image of a batch of uint8 maps and masks (B, H, W) scores, by name, and whether it is empty.

    Arrays are of shape (B,) or (B, T) for T thresholds; precision, recall and F are always computed. Of the pixels of
    each image, ``counted`` tells those that count, at least one; None: all.
    """
    foreground = masks > protocol.mask_threshold
    if counted is not None:
        foreground &= counted
    histograms = count_levels(levels, foreground, protocol, quadrants="s_measure" in metrics, counted=counted)
    # The adaptive threshold is computed with the others, as a last one.
    fixed, adaptive = threshold_counts(histograms, protocol), adaptive_counts(histograms)
    confusion = Confusion(*(np.concatenate(pair, axis=1) for pair in zip(fixed, adaptive, strict=True)))
    precision, recall = precision_recall(confusion, histograms.foreground, protocol)
    curves = {"precision": precision, "recall": recall, "f": f_measure(precision, recall, protocol.beta_squared)}
    if {"max_e", "mean_e", "adaptive_e"} & set(metrics):
        curves["e"] = e_measure(confusion, histograms, protocol)
    result = {"empty": (histograms.foreground == 0).astype(np.float64)}
    for name, values in curves.items():
        result |= {name: values[:, :-1], f"adaptive_{name}": values[:, -1]}
    if "mae" in metrics:
        result["mae"] = (
            _absolute_error(levels, masks, histograms, counted) if protocol.grey_masks else _binary_error(histograms)
        )
    if "s_measure" in metrics:
        result["s_measure"] = s_measure(histograms)
    if "weighted_f" in metrics:
        result["weighted_f"] = _weighted(levels, foreground, histograms, counted)
    return result


def _absolute_error(levels: Tensor, masks: Tensor, histograms: Histograms, counted: Tensor | None) -> Floats:
    """Return the mean absolute difference of rescaled levels and grey masks."""
    rescaled = levels.short()
    if histograms.bins is not None:
        table = torch.from_numpy(histograms.bins.astype(np.int16)).to(levels.device)
        rescaled = table.gather(1, levels.flatten(1).long()).view_as(levels)
    errors = (rescaled - masks).abs_()
    if counted is not None:
        errors *= counted
    total = errors.sum(dim=(1, 2)).cpu().numpy()
    return np.asarray(total / (255 * histograms.pixels))


def _binary_error(histograms: Histograms) -> Floats:
    """Return the mean absolute difference of rescaled probabilities and binary masks."""
    background, foreground = histograms.joint[:, 0], histograms.joint[:, 1]
    total = (background * histograms.values + foreground * (1 - histograms.values)).sum(axis=1)
    return np.asarray(total / histograms.pixels)


def _weighted(levels: Tensor, foreground: Tensor, histograms: Histograms, counted: Tensor | None) -> Floats:
    images = zip(levels.cpu().numpy(), histograms.offsets[:, 0], histograms.span, strict=True)
    chances = [np.add(image, low, dtype=np.float64) / span for image, low, span in images]
    if counted is not None:  # what is ignored is background that nothing is found in
        chances = [chance * inside for chance, inside in zip(chances, counted.cpu().numpy(), strict=True)]
    return np.array([weighted_f(chance, mask) for chance, mask in zip(chances, foreground.cpu().numpy(), strict=True)])
