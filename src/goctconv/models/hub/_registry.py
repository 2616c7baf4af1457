"""Registered models and their weights: released files with their licences, consent, download, and building by timm."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    get_pretrained_cfg,
    is_model,
    register_model,
    register_notrace_module,
    resolve_pretrained_cfg,
)
from torch import nn

from ..._checks import ArgumentError
from ...layers import GOctConv, ParallelDilatedConv, PerScale, SelectScale, SimplifiedGOctConv
from ._checkpoint_formats import StateDict, read_checkpoint
from ._errors import CONSENT_VARIABLE, CheckpointError, LicenseError
from ._hub_model import HubModel
from ._packed import FOLDER, unpack

_logger = logging.getLogger(__name__)

PUBLISHED_LICENSE = "cc-by-nc-sa-4.0"
# Released files, by address; everything else is loaded as timm does.
RELEASED_SHA256 = {
    "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints/csnet-L-x1/csnet-L-x1.pth.tar": (
        "581f02dad8f7333329264fcdf5710111db947246ad43852d3aa0518393157995"
    ),
    "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints/csnet-L-x2/csnet-L-x2.pth.tar": (
        "8d72d13a0edbbd6e5a682ea3e39f4193077f570c8c4c147201083316e0c9490f"
    ),
}
PACKAGED = "goctconv:"  # an address of weights that come with the package
_HUBS = ("hf-hub", "local-dir")

# Layers whose forward compares sizes: torch.fx keeps them whole, as timm's tracing keeps its own such layers.
for _layer in (GOctConv, ParallelDilatedConv, PerScale, SelectScale, SimplifiedGOctConv):
    register_notrace_module(_layer)


def map_cfgs(variants: Mapping[str, Mapping[str, Any]], **shared: Any) -> Any:
    """Return timm's configurations of networks that predict one map of the whole image, by name and tag."""
    common = {
        "num_classes": 1,
        "input_size": (3, 352, 352),
        "min_input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "classifier": "classifier",
        **shared,
    }
    return generate_default_cfgs({name: {**common, **own} for name, own in variants.items()})


def register_variants(
    module: str, create: Callable[..., nn.Module], variants: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> None:
    """Register networks with timm, and put their functions into a module: by name a docstring and default arguments."""
    for variant, (doc, defaults) in variants.items():
        function = _entry_point(variant, create, defaults)
        function.__name__ = function.__qualname__ = variant
        function.__module__, function.__doc__ = module, doc
        setattr(sys.modules[module], variant, register_model(function))


def _entry_point(variant: str, create: Callable[..., nn.Module], defaults: Mapping[str, Any]) -> Any:
    def function(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create(variant, pretrained=pretrained, arguments=kwargs, **defaults)

    return function


def build_model(
    model_cls: type[HubModel], variant: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any
) -> nn.Module:
    """Build a registered model as timm does, reading weights from files and addresses with our own checks."""
    arguments = {**defaults, **arguments}
    accepted = arguments.pop("accept_license", None)
    feature_cls = arguments.pop("feature_cls", "getter")
    if feature_cls != "getter":
        expected = "'getter', which alone makes one tensor of the scales of a stage"
        raise ArgumentError("feature_cls", feature_cls, expected, "leave it out")
    overlay = dict(arguments.pop("pretrained_cfg_overlay", None) or {})
    license_name = _find_weights(variant, arguments, overlay, accepted) if pretrained else None
    model = build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        pretrained_cfg_overlay=overlay,
        pretrained_filter_fn=model_cls.layout.adapted,
        feature_cfg={"feature_cls": "getter", "out_indices": (0, 1, 2, 3)},
        **arguments,
    )
    drop_weights_in_cfg(model)
    if isinstance(model, HubModel) and license_name:
        model.weights_license = license_name
    return model


def drop_weights_in_cfg(model: nn.Module) -> None:
    """Forget the tensors that a configuration of timm has brought to a network."""
    for attribute in ("pretrained_cfg", "default_cfg"):
        getattr(model, attribute, {}).pop("state_dict", None)


def _find_weights(variant: str, arguments: dict[str, Any], overlay: dict[str, Any], accepted: str | None) -> str | None:
    """Put the tensors of local and released files into timm's configuration, and return the licence of the weights."""
    cfg = asdict(resolve_pretrained_cfg(variant, arguments.get("pretrained_cfg"), overlay))
    state = _released_or_local(cfg, variant, accepted, arguments.get("cache_dir"))
    if state is not None:
        overlay["state_dict"] = state
    elif not any(cfg.get(source) for source in ("state_dict", "file", "url", "hf_hub_id")):
        backbone = "" if "csnet" in variant else "; {pretrained_backbone=True} loads the backbone's"
        cure = f"leave it out, or load a file of yours with {{checkpoint_path}}{backbone}"
        problem = f"cannot be used, as no weights were released for {variant}; they exist for csnet_x1_l and csnet_x2_l"
        raise ArgumentError("pretrained", True, problem=problem, cure=cure)
    is_users = cfg.get("source") not in _HUBS and (cfg.get("file") or cfg.get("state_dict"))
    return None if is_users else cfg.get("license")


def _released_or_local(cfg: dict[str, Any], name: str, accepted: str | None, cache: Any) -> StateDict | None:
    """Return the tensors of a local file or of a released one, None for sources that timm itself handles."""
    if cfg.get("source") in _HUBS or cfg.get("state_dict"):
        return None
    if cfg.get("file"):
        return read_checkpoint(cfg["file"])
    url = str(cfg.get("url"))
    if url.startswith(PACKAGED):
        return unpack(FOLDER / url.removeprefix(PACKAGED))
    if url not in RELEASED_SHA256:
        return None
    require_license(cfg.get("license") or PUBLISHED_LICENSE, name, cfg["origin_url"], accepted)
    return read_checkpoint(download(url, RELEASED_SHA256[url], cache))


def packaged_cfg(name: str) -> dict[str, Any] | None:
    """Return the configuration of the default weights of a model's name, if they come with the package."""
    cfg = get_pretrained_cfg(name) if is_model(name.partition(".")[0]) else None
    return asdict(cfg) if cfg is not None and str(cfg.url).startswith(PACKAGED) else None


def size_of_weights(model: nn.Module) -> tuple[int, int] | None:
    """Return the input size of weights that come with the package, saved copies too; None of a model with others."""
    cfg = getattr(model, "pretrained_cfg", None)
    if not isinstance(cfg, Mapping):
        return None
    if not (FOLDER / f"{cfg.get('architecture')}.{cfg.get('tag')}.safetensors").is_file():
        return None
    height, width = cfg["input_size"][1:]
    return height, width


def require_license(license_name: str, weights: str, source: str, accepted: str | None) -> None:
    """Check that the user has accepted a licence, by argument or environment variable; it is stored nowhere."""
    offered = [accepted] if accepted else os.environ.get(CONSENT_VARIABLE, "").split(",")
    if license_name.lower() not in (name.strip().lower() for name in offered):
        raise LicenseError(license_name, weights, source, accepted)


def download(url: str, sha256: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Return a downloaded file, from the cache (``TORCH_HOME``) if it is there, having checked its digest."""
    folder = Path(directory) if directory else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / f"{sha256[:8]}-{Path(url).name}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _logger.info("downloading %s to %s", url, path)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
        except (OSError, HTTPException) as error:
            problem = f"cannot download {url} ({getattr(error, 'reason', error)})"
            cure = "fetch the file by other means and pass it as checkpoint_path="
            raise ConnectionError(f"{problem}: {cure}") from error
        except RuntimeError as error:
            raise CheckpointError(url, f"is not the expected file, so it was not kept ({error})") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise CheckpointError(path, f"has the sha256 {digest}, expected {sha256}", "delete it to download it again")
    return path


def without_values(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the network that a function makes on the meta device, or with values where its constructor needs them."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make()
        except (NotImplementedError, RuntimeError):
            return make()
