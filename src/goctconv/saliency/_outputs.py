"""All outputs of a network that predicts at several scales."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..graph import unwrapped


def all_outputs(network: nn.Module, images: Tensor) -> Sequence[Tensor]:
    """Return what ``forward_multi`` of a network returns, or its only output where it has no such method.

    The network may be wrapped in DistributedDataParallel or compiled: both call ``forward`` and nothing else, in whose
    place ``forward_multi`` is put for the call.
    """
    inner = unwrapped(network)
    multi = getattr(inner, "forward_multi", None)
    if multi is None:
        return (network(images),)
    vars(inner)["forward"] = multi
    try:
        outputs: Sequence[Tensor] = network(images)
    finally:
        del vars(inner)["forward"]
    return outputs
