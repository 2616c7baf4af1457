"""The module that `deploy` returns, and the report of what was done to the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from typing_extensions import Self

from .._torch import ObservedModule, is_placeholder, is_tracing, map_tensors, tensors_in
from ._machine import freed_memory
from .native import NativeNetwork

_ATTRIBUTES = frozenset({
    "channels", "default_cfg", "feature_info", "fuse_stages", "head_hidden_size", "image_sizes", "in_chans",
    "num_classes", "num_features", "pretrained_cfg", "reductions", "weights_license",
})  # fmt: skip
_METHODS = frozenset({"forward_features", "forward_head", "forward_intermediates", "forward_multi"})


@dataclass(frozen=True)
class DeploymentReport:
    """What `deploy` did to a network.

    Attributes:
        network: Class of the network.
        backend: "eager", "compile" or "native".
        dtype: Type of the computation, such as "float32".
        folded: Names of the normalisation layers that are part of convolutions now.
        scaled: Names of the convolutions whose constant factor is part of their weight now.
        dropped: Names of the convolutions that only added zero.
        flushed: Number of weights that were set to zero because they were too small for a normal number.
        rewritten: Names of the blocks and layers that run with kernels.
        notes: What was not done, and why.

    Example:
        >>> import goctconv
        >>> deployed = goctconv.deploy(goctconv.create_model("test_csnet").eval())
        >>> len(deployed.deployment.folded)
        28
        >>> print(deployed.deployment)
        CSNet for eager execution in float32
          28 normalisation layers folded into convolutions
          ...
    """

    network: str
    backend: str
    dtype: str
    folded: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    flushed: int = 0
    rewritten: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"{self.network} for {self.backend} execution in {self.dtype}",
            f"  {_counted(len(self.folded), 'normalisation layer')} folded into convolutions",
            f"  {_counted(len(self.scaled), 'constant factor')} multiplied into weights",
            f"  {_counted(len(self.dropped), 'convolution')} dropped that only added zero",
            f"  {_counted(self.flushed, 'weight')} set to zero, too small for a normal number",
            f"  {_counted(len(self.rewritten), 'block')} rewritten for speed",
        ]
        return "\n".join(lines + [f"  not done: {note}" for note in self.notes])


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class DeployedModel(ObservedModule):
    """The inference model that `deploy` returns: called like the original network, faster, and not trainable."""

    def __init__(
        self,
        network: nn.Module,
        deployment: DeploymentReport,
        dtype: torch.dtype | None = None,
        native: NativeNetwork | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.deployment = deployment
        self.dtype = dtype
        self._compiled: Any = None
        self._native = native
        super().train(mode=False)

    def __getattr__(self, name: str) -> Any:
        if name in _ATTRIBUTES:
            return getattr(self.network, name)
        if name in _METHODS:
            method = getattr(self.network, name)
            return lambda *args, **kwargs: self._converted(method, args, kwargs)
        if name in {"save_pretrained", "push_to_hub"}:
            message = f"a deployed network has no {name}: save the one it was made from, and deploy it again"
            raise AttributeError(message)
        return super().__getattr__(name)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode.

        Raises:
            ValueError: ``mode`` is True.
        """
        if mode:
            raise ValueError("a deployed network cannot be trained: train the one it was made from, and deploy that")
        return super().train(mode)

    def forward(self, x: Any = None, /, *args: Any, **kwargs: Any) -> Any:
        """Return what the network returns, of the arguments that it takes; the first is usually the image.

        Raises:
            ValueError: `torch.fx` traces the network.
        """
        if is_placeholder(args):
            raise ValueError(
                "a deployed network cannot be traced by torch.fx: trace the one it was made from, or use torch.export"
            )
        if self._native is not None and not (args or kwargs) and self._native.takes(x):
            return self._native(x)
        if x is not None or args:
            args = (x, *args)
        run: Any = self.network
        if self.deployment.backend == "compile" and not (torch.compiler.is_compiling() or is_tracing()):
            if self._compiled is None:
                self._compiled = torch.compile(self._run)
            run = self._compiled
        return self._converted(run, args, kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self.network(*args, **kwargs)

    @staticmethod
    def release_memory() -> None:
        """Return the memory that the process keeps for the next large image to the system.

        The next large image makes the process keep memory again.
        """
        freed_memory.release()

    def tensors_changed(self) -> None:
        """Follow ``.float()`` and the like, which mean the inputs too; compiled weights are the old ones."""
        self._native = None
        if self.dtype is not None:
            self.dtype = self._dtype_of_weights()

    def _dtype_of_weights(self) -> torch.dtype | None:
        return next((weight.dtype for weight in self.parameters() if weight.is_floating_point()), self.dtype)

    def _converted(self, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.dtype is None:
            return run(*args, **kwargs)
        first = next(iter(tensors_in((args, kwargs))), None)
        args, kwargs = _cast((args, kwargs), self.dtype)
        output = run(*args, **kwargs)
        return output if first is None or not first.is_floating_point() else _cast(output, first.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # compiled code belongs to one object

    def extra_repr(self) -> str:
        """Return backend and type."""
        dtype = str(self._dtype_of_weights()).removeprefix("torch.")
        return f"backend={self.deployment.backend!r}, dtype={dtype}"


def _cast(tree: Any, dtype: torch.dtype) -> Any:
    return map_tensors(lambda x: x.to(dtype) if x.is_floating_point() else x, tree)
