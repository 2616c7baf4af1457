"""Saliency maps of photographs, in PyTorch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

import copy
import os
import shutil
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..._checks import ArgumentError, ArgumentTypeError, check_choice, check_integer, escaped
from ...deployment import DeployedModel, Engine, OnnxEngine, OpenVINOEngine, deploy, export_onnx, export_openvino
from ...graph import evaluating
from .._resize import Size, check_size_or_own, resize_bilinear
from ..data import MAX_PIXELS, ImageLike, default_workers
from ._network import Map, check_model, each_probability, maps_of
from ._pipeline import Outcome, Prepared, prepare, run_pipeline

DEFAULT_MODEL = "csnet_x1_l"


def predict(
    model: nn.Module | None,
    images: Iterable[ImageLike],
    *,
    size: Size | None = None,
    batch_size: int = 8,
    device: str | torch.device = "auto",
) -> list[Map]:
    """Predict the saliency map of each image, as published.

    Images are resized to ``size``, the network's probabilities are resized back. Files are decoded in threads while the
    network runs. The model is in eval mode during the call and gets its flags back.

    Args:
        model: A network that takes normalised images (B, 3, H, W) and returns logits (B, 1, H, W); None: csnet_x1_l
            with the weights that come with the package.
        images: Paths, the bytes of image files, PIL images, or uint8 arrays of shape (H, W, 3) or (H, W). EXIF
            orientation is applied.
        size: The network's input size: one integer or (height, width), at least 32; or ``"own"``: images keep the size
            that they have, and those of different sizes go through the network one by one. By default 224, or the size
            of weights that come with the package.
        batch_size: Images per forward pass. It changes speed and memory, not the maps (beyond rounding).
        device: "auto" is where the model is. On another device a copy of the model runs; yours stays where it is.

    Returns:
        For each image a float32 array (H, W) of its own upright size, with values from 0 to 1.

    Raises:
        ImageError: An image cannot be read.
        ArgumentError: ``model`` is no network or its output no map, ``images`` is a single image, or ``size`` or
            ``batch_size`` is no integer or too small. It is a FloatingPointError too if the output is not a number.

    Example:
        >>> import numpy as np, torch
        >>> from goctconv.saliency import predict
        >>> model = torch.nn.Conv2d(3, 1, 1)  # any network that returns logits
        >>> [saliency.shape for saliency in predict(model, [np.zeros((30, 40, 3), np.uint8)])]
        [(30, 40)]
    """
    if model is None:
        model = default_model()
    check_model(model)
    _refuse_single(images)
    network_size = check_size_or_own(_size_for(model, size))
    batch_size = check_integer("batch_size", batch_size, least=1)
    with evaluating(model, device) as network:
        return _predict_all(images, lambda pixels: each_probability(network, pixels), network_size, batch_size)


def default_model() -> nn.Module:
    """Return the network whose weights come with the package."""
    from ...models import create_model  # noqa: PLC0415  (timm loads slowly, and networks of one's own need it not)

    return create_model(DEFAULT_MODEL, pretrained=True).eval()


def _size_for(model: Any, size: Size | None) -> Size:
    """Return the input size that is asked for, else that of the weights."""
    if size is not None:
        return size
    if not hasattr(model, "pretrained_cfg"):
        return 224
    from ...models.hub import size_of_weights  # noqa: PLC0415  (as above)

    return size_of_weights(model) or 224


def _predict_all(
    images: Iterable[ImageLike],
    infer: Callable[[Sequence[Map]], Sequence[Map]],
    size: tuple[int, int] | None,
    batch_size: int,
) -> list[Map]:
    """Return the maps of images, at their own sizes; ``infer`` returns those of a batch at the network's."""

    def load(source: tuple[int, ImageLike]) -> Prepared:
        index, image = source
        name = str(image) if isinstance(image, (str, os.PathLike)) else f"images[{index}]"
        return prepare(image, size, name=name)

    def finish(_: object, probability: Map, shape: tuple[int, int]) -> Map:
        return resize_bilinear(probability, shape, dtype=np.float32)

    maps = []
    pipeline = run_pipeline(enumerate(images), load, infer, finish, batch_size=batch_size, workers=default_workers())
    with closing(pipeline) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            if outcome.value is not None:
                maps.append(outcome.value)
    return maps


def _refuse_single(images: object) -> None:
    if isinstance(images, (str, os.PathLike, bytes, Image.Image)):
        raise ArgumentTypeError("images", images, "a list", "pass [image]")
    if isinstance(images, (np.ndarray, Tensor)):
        cure = "pass [image], or list(images) for a stack of images"
        raise ArgumentTypeError("images", images, "a list of uint8 arrays (H, W, 3)", cure)


Backend: TypeAlias = Literal["torch", "native", "onnx", "openvino"]
I = TypeVar("I", bound=ImageLike)  # noqa: E741
R = TypeVar("R")

_MODELS = "a torch.nn.Module, or the path of a file that ends in .onnx or .xml"

FILES: dict[str, tuple[Backend, ...]] = {".onnx": ("onnx", "openvino"), ".xml": ("openvino",)}  # who reads them


class Predictor:
    """Predicts saliency maps, in PyTorch, as compiled C, in ONNX Runtime or OpenVINO.

    The network is made fast once: `goctconv.deploy` folds it, and where another engine is to run it, it is exported to
    it, which takes seconds to a minute; a file that has been exported already is only loaded. ONNX Runtime and OpenVINO
    run on the processor, with an image of the batch on each of the threads.

    Args:
        model: A network that takes normalised images (B, 3, H, W) and returns logits (B, 1, H, W); it is left as it
            is. Or the path of one that was exported, ``.onnx`` or ``.xml``. By default csnet_x1_l with the weights that
            come with the package.
        backend: "torch", "native" (compiled C, see `goctconv.deploy`), "onnx" (ONNX Runtime) or "openvino"; by default
            what the model is made for.
        size: The network's input size: one integer or (height, width), at least 32; or ``"own"``: images keep the size
            that they have, and those of different sizes go through the network one by one. A network is exported for
            this size alone. By default 224, or the size of weights that come with the package.
        batch_size: Images per forward pass. It changes speed and memory, not the maps (beyond rounding).
        device: Of "torch": "auto" is where the model is.
        threads: Of "native", "onnx" and "openvino"; by default one for each processor. Those of "torch" are set by
            `torch.set_num_threads`, for the whole process.

    Attributes:
        backend: Which engine runs.

    Raises:
        ImportError: The engine, or what the export needs, is not installed.
        ExportError: The network cannot be exported.
        NotSupportedError: The network has an operation that "native" does not have.
        ArgumentError: ``model`` is neither a network nor a path of an intact file, ``size`` or ``batch_size`` is no
            integer, too small, or another one than the file takes, or the engine does not go with the model, the device
            or the number of threads.

    Example:
        >>> import numpy as np, torch
        >>> from goctconv.saliency import Predictor
        >>> predictor = Predictor(torch.nn.Conv2d(3, 1, 1))  # any network that returns logits
        >>> [saliency.shape for saliency in predictor([np.zeros((30, 40, 3), np.uint8)])]
        [(30, 40)]
    """

    def __init__(
        self,
        model: nn.Module | str | os.PathLike[str] | None = None,
        *,
        backend: Backend | None = None,
        size: Size | None = None,
        batch_size: int = 8,
        device: str | torch.device = "auto",
        threads: int | None = None,
    ) -> None:
        if model is None:
            model = default_model()
        self.backend: Backend = _backend_for(model, backend)
        self.size = check_size_or_own(_size_for(model, size))
        self.batch_size = check_integer("batch_size", batch_size, least=1)
        _check_place(self.backend, device, threads)
        self._network: nn.Module | Engine
        if isinstance(model, nn.Module) and self.backend == "torch":
            network = model if isinstance(model, DeployedModel) else deploy(model)
            places = {parameter.device for parameter in model.parameters()}
            if device not in {None, "auto"} and places != {torch.device(device)}:
                network = (copy.deepcopy(network) if network is model else network).to(device)
            self._network = network
        elif isinstance(model, nn.Module) and self.backend == "native":
            self._network = deploy(model, backend="native", threads=threads)
        else:
            self._network = self._load(self._file_of(model), threads)

    def __call__(self, images: Iterable[ImageLike]) -> list[Map]:
        """Predict the map of each image.

        Args:
            images: Paths, the bytes of image files, PIL images, or uint8 arrays of shape (H, W, 3) or (H, W).

        Returns:
            For each image a float32 array (H, W) of its own upright size, with values from 0 to 1.

        Raises:
            ImageError: An image cannot be read.
            ArgumentError: ``images`` is a single image, or the network's output is not a map.
        """
        _refuse_single(images)
        return _predict_all(images, self.infer, self.size, self.batch_size)

    def each(
        self,
        images: Iterable[I],
        finish: Callable[[I, Map, tuple[int, int]], R],
        *,
        workers: int | None = None,
        max_pixels: int | None = None,
    ) -> Generator[Outcome[I, R], None, None]:
        """Predict the maps of many images, of which only a few batches are in memory; one that fails ends no other.

        Images are decoded and maps finished in threads while the network runs. Closing the generator ends them.

        Args:
            images: As for a call; taken as they are needed.
            finish: Gets an image as it was given, its map at the network's size, and its own (height, width), such as
                `grey_map` takes them, and returns what is wanted of it.
            workers: Threads; by default one per processor, at most four.
            max_pixels: Larger photographs are refused before they are decoded; by default those that Pillow refuses.

        Yields:
            For each image, in order, an object with the attributes ``source``, the image; ``value``, what ``finish``
            returned; and ``error``, an ImageError, OSError or MemoryError where there is none.
        """

        def load(image: I) -> Prepared:
            return prepare(image, self.size, max_pixels or MAX_PIXELS)

        workers = workers or default_workers()
        return run_pipeline(images, load, self.infer, finish, batch_size=self.batch_size, workers=workers)

    def infer(self, pixels: Sequence[Map]) -> list[Map]:
        """Return the maps of images that are preprocessed, at the sizes that they have then.

        Args:
            pixels: Arrays of shape (3, height, width), of the network's size if it is not "own".

        Raises:
            ArgumentError: The network's output is not a map, or not a number.
        """
        if isinstance(self._network, nn.Module):
            return each_probability(self._network, pixels)
        outputs = self._network.each([image[None] for image in pixels])
        return [
            maps_of(torch.from_numpy(output), (1, *image.shape))[0]
            for image, output in zip(pixels, outputs, strict=True)
        ]

    def _load(self, file: Path, threads: int | None) -> Engine:
        engine = OnnxEngine if self.backend == "onnx" else OpenVINOEngine
        try:
            loaded = engine(file, threads=threads, split=True, size=self.size)
        except ArgumentError as error:  # of the file, which is the model here
            raise ArgumentError("model", str(file), problem=error.problem, cure=error.cure) from error
        except ImportError:
            raise
        except Exception as error:  # each engine has errors of its own
            problem = f"cannot be loaded by {self.backend} ({escaped(' '.join(str(error).split()))})"
            raise ArgumentError("model", str(file), problem=problem, cure="export it again") from error
        if loaded.channels not in {None, 3}:
            problem = f"takes images of {loaded.channels} channels, not of 3"
            raise ArgumentError("model", str(file), problem=problem, cure="export a network of photographs")
        return loaded

    def _file_of(self, model: nn.Module | str | os.PathLike[str]) -> Path:
        if not isinstance(model, nn.Module):
            return Path(model)
        folder = Path(mkdtemp(prefix="goctconv-"))
        # Engines may read from it as long as they live.
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        if self.backend == "onnx":
            export_onnx(model, folder / "network.onnx", size=self.size)
            return folder / "network.onnx"
        export_openvino(model, folder / "network.xml", size=self.size)
        return folder / "network.xml"


def _backend_for(model: object, backend: Backend | None) -> Backend:
    check_choice("backend", backend, (*get_args(Backend), None))
    if isinstance(model, nn.Module):
        return backend or "torch"
    if not isinstance(model, str | os.PathLike):
        raise ArgumentTypeError("model", model, _MODELS)
    path = Path(model)
    engines = FILES.get(path.suffix)
    if engines is None:
        raise ArgumentError("model", str(model), _MODELS)
    if backend is not None:
        check_choice("backend", backend, engines, f"the others do not read {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file: export it with goctconv export")
    return backend or engines[0]


def _check_place(backend: str, device: object, threads: int | None) -> None:
    if backend == "torch":
        if threads is not None:
            problem = "is not for PyTorch, whose threads torch.set_num_threads sets"
            raise ArgumentError("threads", threads, problem=problem, cure="leave {threads} out")
    elif device not in {None, "auto", "cpu", torch.device("cpu")}:
        problem = f"does not go with {{backend={backend!r}}}, which runs on the processor"
        raise ArgumentError("device", device, problem=problem, cure="leave {device} out")
    elif threads is not None:
        check_integer("threads", threads, least=1)
