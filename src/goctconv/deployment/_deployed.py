from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from typing_extensions import Self

from ._report import DeploymentReport

_TOLD = frozenset({
    "channels", "default_cfg", "feature_info", "fuse_stages", "head_hidden_size", "image_sizes", "in_chans",
    "num_classes", "num_features", "pretrained_cfg", "reductions", "weights_license",
})  # fmt: skip
_ASKED = frozenset({"forward_features", "forward_head", "forward_intermediates", "forward_multi"})


class Deployed(nn.Module):
    """A network that `deploy` made: called like the one it was made from, faster, and no longer to be trained.

    Attributes:
        network: What runs.
        deployment: What was done.
        dtype: What inputs are converted to; None for nothing.

    It stays in eval mode. Weights that are changed in place by hand, or given by `torch.func.functional_call`, may have
    no effect; those of ``load_state_dict`` have.

    Example:
        >>> import torch
        >>> import goctconv
        >>> deployed = goctconv.deploy(goctconv.create_model("test_csnet"))
        >>> print(deployed.deployment)
        CSNet for eager execution in float32
          28 normalisation layers folded into convolutions
          ...
    """

    def __init__(self, network: nn.Module, deployment: DeploymentReport, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.network = network
        self.deployment = deployment
        self.dtype = dtype
        self._compiled: Any = None
        super().train(mode=False)

    def __getattr__(self, name: str) -> Any:
        if name in _TOLD:
            return getattr(self.network, name)
        if name in _ASKED:
            method = getattr(self.network, name)
            return lambda *args, **kwargs: self._converted(method, args, kwargs)
        if name in {"save_pretrained", "push_to_hub"}:
            raise AttributeError(
                f"a deployed network has no {name}: save the one it was made from, and deploy it again"
            )
        return super().__getattr__(name)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode.

        Raises:
            ValueError: Training mode is asked for.
        """
        if mode:
            raise ValueError("a deployed network cannot be trained: train the one it was made from, and deploy that")
        return super().train(mode)

    def forward(self, x: Any = None, /, *args: Any, **kwargs: Any) -> Any:
        """Return what the network returns, of the arguments that it takes; the first is usually the image."""
        if x is not None or args:
            args = (x, *args)
        run: Any = self.network
        if self.deployment.backend == "compile" and not _is_watched():
            if self._compiled is None:
                self._compiled = torch.compile(self._run)
            run = self._compiled
        return self._converted(run, args, kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self.network(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch
        if self.dtype is not None:  # ``.float()`` and the like mean inputs too
            self.dtype = self._dtype_of_weights()
        return self

    def _dtype_of_weights(self) -> torch.dtype | None:
        return next((one.dtype for one in self.parameters() if one.is_floating_point()), self.dtype)

    def _converted(self, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.dtype is None:
            return run(*args, **kwargs)
        first = next((leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), None)
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
    return pytree.tree_map_only(Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, tree)


def _is_watched() -> bool:
    """Whether something follows the computation, which compiled code would hide."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # public
