"""How every model of this package is built through timm: weights are read, checked and licensed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from timm.models import build_model_with_cfg, register_notrace_module, resolve_pretrained_cfg
from torch import nn

from ..layers import GOctConv, ParallelDilatedConv, PerScale, SelectScale, SimplifiedGOctConv
from ._checkpoints import StateDict, download, read_checkpoint
from ._hub import HubModel
from ._licenses import require_license
from ._published import PUBLISHED_LICENSE

# Files of others that we point to, by address; everything else is loaded as timm does.
RELEASED_SHA256 = {
    "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints/csnet-L-x1/csnet-L-x1.pth.tar": (
        "581f02dad8f7333329264fcdf5710111db947246ad43852d3aa0518393157995"
    ),
    "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints/csnet-L-x2/csnet-L-x2.pth.tar": (
        "8d72d13a0edbbd6e5a682ea3e39f4193077f570c8c4c147201083316e0c9490f"
    ),
}

_HUBS = ("hf-hub", "local-dir")

# Layers whose forward compares sizes: torch.fx keeps them whole, as timm's tracing keeps its own such layers.
for _layer in (GOctConv, ParallelDilatedConv, PerScale, SelectScale, SimplifiedGOctConv):
    register_notrace_module(_layer)


def build_model(
    model_cls: Callable[..., nn.Module],
    variant: str,
    *,
    pretrained: bool,
    filter_fn: Callable[[StateDict, nn.Module], StateDict],
    out_indices: tuple[int, ...],
    arguments: dict[str, Any],
) -> nn.Module:
    """Build a registered model as timm does, reading weights from files and addresses with our own checks.

    Args:
        model_cls: The model's class.
        variant: Its registered name.
        pretrained: Whether to load weights.
        filter_fn: Turns a state dict of foreign layout into one of the model's.
        out_indices: The features that ``features_only`` gives by default.
        arguments: What timm and the user passed: configuration, consent, and arguments of the class.

    Raises:
        LicenseError: The weights' licence has not been accepted.
        CheckpointError: The weights cannot be read or do not fit.
        ConnectionError: They cannot be downloaded.
    """
    accepted = arguments.pop("accept_license", None)
    feature_cls = arguments.pop("feature_cls", "getter")
    if feature_cls != "getter":
        raise ValueError(
            f"feature_cls={feature_cls!r}: a stage may end in several scales, which only 'getter' turns into one "
            "tensor per stage; leave it out"
        )
    overlay = dict(arguments.pop("pretrained_cfg_overlay", None) or {})
    license_name = None
    if pretrained:
        cfg = asdict(resolve_pretrained_cfg(variant, arguments.get("pretrained_cfg"), overlay))
        state = _released_or_local(cfg, variant, accepted, arguments.get("cache_dir"))
        if cfg.get("source") in _HUBS or not (cfg.get("file") or cfg.get("state_dict")):
            license_name = cfg.get("license")
        if state is not None:
            overlay["state_dict"] = state
        elif not any(cfg.get(source) for source in ("state_dict", "file", "url", "hf_hub_id")):
            raise ValueError(
                f"pretrained=True: no weights were released for {variant}; they exist for csnet_x1_l and csnet_x2_l. "
                "Leave it out, or load a file of yours with checkpoint_path="
                + ("" if "csnet" in variant else "; pretrained_backbone=True loads the backbone's")
            )
    model = build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        pretrained_cfg_overlay=overlay,
        pretrained_filter_fn=filter_fn,
        feature_cfg={"feature_cls": "getter", "out_indices": out_indices},
        **arguments,
    )
    for attribute in ("pretrained_cfg", "default_cfg"):
        getattr(model, attribute).pop("state_dict", None)
    if isinstance(model, HubModel) and license_name:
        model.weights_license = license_name
    return model


def _released_or_local(cfg: dict[str, Any], name: str, accepted: str | None, cache: Any) -> StateDict | None:
    """Return the tensors of a local file or of a released one, None for sources that timm itself handles."""
    if cfg.get("source") in _HUBS or cfg.get("state_dict"):
        return None
    if cfg.get("file"):
        return read_checkpoint(cfg["file"])
    url = cfg.get("url")
    if url not in RELEASED_SHA256:
        return None
    require_license(cfg.get("license") or PUBLISHED_LICENSE, name, cfg["origin_url"], accepted)
    return read_checkpoint(download(url, RELEASED_SHA256[url], cache))
