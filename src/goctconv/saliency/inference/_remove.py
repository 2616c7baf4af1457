"""Backgrounds of photographs, removed in one call."""

from __future__ import annotations

from PIL import Image
from torch import nn

from ..._checks import ArgumentError, check_flags, check_instance
from ..data import ImageLike
from ..matting import Background, decoded, find_background, refine_cutout
from ..matting._cutout import Refinement
from ._network import Map
from ._pipeline import prepare
from ._predict import Predictor


def remove_background(
    image: ImageLike,
    *,
    model: nn.Module | None = None,
    predictor: Predictor | None = None,
    background: Background | None = None,
    refine: Refinement | None = "guided",
    threshold: float | None = None,
    crop: bool = False,
) -> Image.Image:
    """Remove the background of a photograph.

    The network's map is refined by `refine_cutout`, which also tells whether there is an object and where; without one,
    the result is empty. Of many photographs, pass one ``predictor`` to all calls.

    Args:
        image: A path, the bytes of an image file, a PIL image, or a uint8 array of shape (H, W, 3) or (H, W).
        model: A network that takes normalised images (B, 3, H, W) and returns logits (B, 1, H, W); by default
            csnet_x1_l with the weights that come with the package.
        predictor: In place of ``model``, a `Predictor`, which may run in another engine or at another size.
        background: A colour (a name, ``"#ffcc00"`` or red, green and blue), a picture, which is cut to cover the
            photograph, or ``"blur"``: the old background, blurred. A text is a path where it names no colour.
        refine: As for `refine_cutout`.
        threshold: As for `refine_cutout`.
        crop: Return the part around the object alone.

    Returns:
        An image of mode ``RGBA``, upright and of the photograph's size; of mode ``RGB`` with a background. Colours are
        0 where nothing is visible; the ICC profile is in ``info["icc_profile"]``, as `Cutout.rendered` says.

    Raises:
        ImageError: An image cannot be read.
        ArgumentError: Both ``model`` and ``predictor`` are given, or another argument is out of range.
        ImportError: "closed-form" without pymatting.

    Example:
        >>> import numpy as np, torch
        >>> from goctconv.saliency import remove_background
        >>> model = torch.nn.Conv2d(3, 1, 1)  # any network that returns logits
        >>> remove_background(np.zeros((30, 40, 3), np.uint8), model=model, background="white").size
        (40, 30)
    """
    if model is not None and predictor is not None:
        raise ArgumentError("model", model, problem="with {predictor}", cure="pass one of {model} and {predictor}")
    check_flags(crop=crop)
    place = find_background(background)  # before the work
    if predictor is None:
        predictor = Predictor(model)
    check_instance("predictor", predictor, Predictor, "a goctconv.saliency.Predictor")
    photograph = decoded(image)
    cutout = refine_cutout(photograph, map_of(predictor, photograph), refine=refine, threshold=threshold)
    return cutout.rendered(place, crop=crop)


def map_of(predictor: Predictor, photograph: Image.Image) -> Map:
    """Return the map of a decoded photograph, at the network's size."""
    (probability,) = predictor.infer([prepare(photograph, predictor.size).pixels])
    return probability
