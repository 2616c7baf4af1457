"""The object of a photograph, cut out at full resolution along a map."""

from __future__ import annotations

import importlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..._checks import check_choice, check_share
from .._resize import check_probability
from ..data._color import Shown
from ..data._images import MAX_PIXELS, ImageLike, damaged_data, load, open_path, open_stream, read_image, shown_parts
from ._background import Background, composed, find_background
from ._clean import OBJECT, cleaned, has_object
from ._foreground import Layers, painted, separated
from ._planes import Linear, Plane, colors_of, resized, to_image
from ._refine import fitted, guide_size, refined, snapped

Refinement = Literal["guided", "closed-form"]
REFINEMENTS: tuple[Refinement | None, ...] = (*get_args(Refinement), None)
_CLOSED_FORM_PIXELS = 300_000  # at which closed-form matting takes some ten seconds
_CERTAIN = 0.02  # alpha up to this far from 0 and 1 is known to closed-form matting


@dataclass(frozen=True)
class Cutout:
    """An object that `refine_cutout` has cut out.

    Attributes:
        image: The object at the photograph's size, upright, of mode ``RGBA``: its colours are its own, without those of
            the old background, and 0 where nothing is visible. Its ICC profile is in ``info["icc_profile"]``.
        has_object: How sure it is that there is an object, from 0 to 1: the highest mean probability of 3 x 3 pixels of
            the map. Below 0.5 (or the threshold) the cut-out is empty.
        behind: The old background with what the object hides filled in, of mode ``RGB`` and reduced.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from goctconv.saliency import refine_cutout
        >>> cutout = refine_cutout(Image.new("RGB", (60, 40), "red"), np.zeros((32, 32), np.float32))
        >>> cutout.has_object, cutout.area, cutout.box
        (0.0, 0.0, None)
    """

    image: Image.Image
    has_object: float
    behind: Image.Image

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) around what is visible, in pixels; None of an empty cut-out."""
        return self.image.getchannel("A").getbbox()

    @property
    def area(self) -> float:
        """The share of the photograph that is object, from 0 to 1: the mean of alpha."""
        counts = np.array(self.image.getchannel("A").histogram())
        return float(counts @ np.arange(256) / (255 * counts.sum()))

    def rendered(self, background: Background | None = None, *, crop: bool = False) -> Image.Image:
        """Return the object alone or on a background.

        Args:
            background: As for `remove_background`.
            crop: Return the part around the object alone; all of an empty cut-out.

        Returns:
            An image of mode ``RGBA``, or ``RGB`` with a background: a colour or a picture is in sRGB, as the result is
            then; a blurred one keeps the photograph's ICC profile.

        Raises:
            ArgumentError: ``background`` is neither a colour nor a picture.
            ImageError: The picture cannot be read.
        """
        place = find_background(background)
        picture = self.image if place is None else composed(self.image, place, self.behind)
        return picture.crop(self.box) if crop and self.box is not None else picture.copy()


def refine_cutout(
    image: ImageLike,
    probability: NDArray[Any],
    *,
    refine: Refinement | None = "guided",
    threshold: float | None = None,
) -> Cutout:
    """Cut the object of a photograph out at full resolution, along a map of low resolution from any engine.

    Edges follow the photograph, islands and holes smaller than 3 x 3 pixels of the map are removed, and the object's
    colours are estimated without those of the old background. The map is not rescaled: where there is no object, the
    cut-out is empty. Needs NumPy and Pillow alone.

    Args:
        image: What `read_image` takes. EXIF orientation is applied; what is transparent stays so.
        probability: The map of the whole image, upright, of shape (h, w), with values from 0 to 1; any size will do.
        refine: How edges are found: "guided", in about a second for 12 megapixels; "closed-form", closed-form matting
            by pymatting, in about ten; None: the map is interpolated.
        threshold: Makes the map binary first: object where the probability is greater.

    Raises:
        ImageError: The image cannot be read.
        ArgumentError: ``probability`` is no map of values from 0 to 1, or another argument is out of range.
        ImportError: "closed-form" without pymatting: ``pip install goctconv[matting]``.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from goctconv.saliency import refine_cutout
        >>> photograph = Image.new("RGB", (90, 60), "navy")
        >>> photograph.paste("orange", (30, 15, 70, 45))
        >>> probability = np.zeros((48, 48), np.float32)  # of any network, at its own size
        >>> probability[12:36, 16:37] = 0.95
        >>> cutout = refine_cutout(photograph, probability)
        >>> cutout.box, cutout.image.getpixel((50, 30))
        ((30, 15, 70, 45), (255, 165, 0, 255))
    """
    check_choice("refine", refine, REFINEMENTS)
    matting = _pymatting() if refine == "closed-form" else None
    level = OBJECT if threshold is None else check_share("threshold", threshold)
    raw = _checked(probability)
    shown = shown_parts(decoded(image))
    score = has_object(raw)
    found = cleaned(raw, level)
    if threshold is not None:
        found = (found > threshold).astype(np.float32)
    visible = shown.colors if shown.alpha is None else Image.composite(shown.colors, _white(shown), shown.alpha)
    height, width = guide_size((visible.height, visible.width), (found.shape[0], found.shape[1]))
    guide = visible.resize((width, height), Image.Resampling.BOX)
    alpha, model = _flat(found) if refine is None else refined(guide, found)
    layers = separated(guide, resized(alpha, (height, width)))
    if matting is not None:
        alpha, model, layers = _closed_form(matting, visible, alpha)
    colors, opacity = painted(shown.colors, alpha, model, layers)
    return Cutout(shown._replace(colors=colors).through(opacity).merged(), score, layers.behind)


def decoded(image: ImageLike, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Image.Image:
    """Return an image of a file or of bytes, decoded but not converted, so that it need not be decoded again."""
    if isinstance(image, bytes):
        name = name or "image"
        opened = open_stream(io.BytesIO(image), name, max_pixels)
        with damaged_data(name):
            load(opened)
        return opened
    if isinstance(image, str | os.PathLike):
        with open_path(Path(image), max_pixels) as opened, damaged_data(name or str(image)):
            load(opened)
        return opened
    return image if isinstance(image, Image.Image) else read_image(image, max_pixels=max_pixels, name=name)


def _white(shown: Shown) -> Image.Image:
    return Image.new("RGB", shown.colors.size, "white")


def _checked(probability: NDArray[Any]) -> Plane:
    return np.asarray(check_probability(probability), dtype=np.float32)


def _flat(probability: Plane) -> tuple[Plane, Linear]:
    return probability, Linear([np.zeros_like(probability)] * 3, probability)


def _pymatting() -> Any:
    try:
        return importlib.import_module("pymatting")
    except ImportError as error:
        raise ImportError('refine="closed-form" needs pymatting: pip install goctconv[matting]') from error


def _closed_form(matting: Any, photograph: Image.Image, alpha: Plane) -> tuple[Plane, Linear, Layers]:
    """Compute alpha and both layers by closed-form matting, where the refined alpha is in doubt."""
    share = min(1.0, (_CLOSED_FORM_PIXELS / (photograph.width * photograph.height)) ** 0.5)
    size = (max(1, round(photograph.height * share)), max(1, round(photograph.width * share)))
    guide = photograph.resize((size[1], size[0]), Image.Resampling.BOX)
    trimap = resized(alpha, size)
    trimap = np.where(trimap < _CERTAIN, 0, np.where(trimap > 1 - _CERTAIN, 1, 0.5))
    if {0.0, 1.0} <= set(np.unique(trimap)):
        picture = np.asarray(guide) / 255
        found = matting.estimate_alpha_cf(picture, trimap)
        ours, behind = matting.estimate_foreground_ml(picture, found, return_background=True)
        layers = Layers(*(to_image(layer) for layer in (ours, behind)))
    else:  # there is nothing to start from
        found = resized(alpha, size)
        layers = separated(guide, found)
    return (*fitted(colors_of(guide), snapped(found.astype(np.float32))), layers)
