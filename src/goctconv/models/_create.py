"""Making models by name."""

from __future__ import annotations

import difflib
import os
from typing import Any, cast

import timm
from timm.models import is_model_in_modules
from torch import nn

from . import _csf_checkpoint, _csnet_checkpoint, _scfnet_checkpoint
from ._checkpoints import load_strictly, read_checkpoint
from ._errors import CheckpointError
from ._hub import MODULES, HubModel
from ._pruned import create_planned, planned_folder

_SAVED = ("local-dir:", "hf-hub:", "hf_hub:")
_WRAPPER = ("features_only", "out_indices", "feature_cls")
_WIDTHS = {"channels", "fuse_stages", "base_width", "split", "depths", "fuse_channels", "norm", "width"}


class UnknownModelError(ValueError):
    """There is no model of this name."""


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of this package's models.

    Args:
        pattern: A shell pattern that the names must match.

    Example:
        >>> import goctconv
        >>> goctconv.list_models("csnet_x1*")
        ['csnet_x1', 'csnet_x1_2', 'csnet_x1_5', 'csnet_x1_8', 'csnet_x1_l']
    """
    return sorted(name for module in MODULES for name in timm.list_models(pattern, module=module))


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    checkpoint_path: str | os.PathLike[str] | None = None,
    accept_license: str | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Return a model by name: one of this package's, or any of timm's.

    As ``import goctconv.models; timm.create_model(...)``, with more helpful errors. A checkpoint of this package's
    models is loaded strictly, and its learned widths are read from its tensors, so that any pruned CSNet loads; give
    none of ``channels``, ``fuse_stages``, ``base_width``, ``split`` and ``depths`` then.

    Args:
        name: See `list_models`; or "local-dir:DIRECTORY" or "hf-hub:OWNER/NAME" for a network that was saved, which
            comes with its weights. A directory of `save_pruned` may hold any of timm's.
        pretrained: Whether to download the released weights. Those that are not ours need ``accept_license``.
        checkpoint_path: A file of weights to load: the authors' ``.pth.tar``, a state dict, or safetensors.
        accept_license: The licence of the weights that you accept, such as "cc-by-nc-sa-4.0"; it is stored nowhere.
            The environment variable ``GOCTCONV_ACCEPT_LICENSES`` does the same.
        **kwargs: Arguments of the model, such as ``in_chans``, ``num_classes`` or ``channels``.

    Raises:
        UnknownModelError: No such name; the nearest ones are suggested.
        LicenseError: The weights' licence has not been accepted.
        CheckpointError: The weights cannot be read or do not fit; all mismatches are listed.
        PruningError: A saved plan is for another model.
        FileNotFoundError: There is no file at ``checkpoint_path``.
        ConnectionError: The weights cannot be downloaded.
        ValueError: Both ``pretrained`` and ``checkpoint_path``; ``pretrained`` where nothing was released; arguments of
            the model that cannot be.

    Example:
        >>> import goctconv
        >>> model = goctconv.create_model("csnet_x1_l")
        >>> sum(p.numel() for p in model.parameters())
        93647
    """
    _check_name(name)
    if not isinstance(pretrained, bool):
        raise TypeError(f"pretrained={pretrained!r} must be True or False; a file goes to checkpoint_path=")
    if accept_license is not None and not isinstance(accept_license, str):
        raise TypeError(f"accept_license={accept_license!r} must be the licence's name, such as 'cc-by-nc-sa-4.0'")
    if pretrained and checkpoint_path is not None:
        raise ValueError("pretrained=True and checkpoint_path= both name weights: give one of them")
    if folder := planned_folder(name):
        return create_planned(folder, checkpoint_path, **kwargs)
    ours = name.partition(".")[0] in list_models()
    if accept_license is not None and pretrained and ours:
        kwargs["accept_license"] = accept_license
    if name.startswith(_SAVED) and checkpoint_path is None:
        return timm.create_model(name, pretrained=True, **kwargs)
    file = None if checkpoint_path is None else os.fspath(checkpoint_path)
    if file is None:
        return timm.create_model(name, pretrained=pretrained, **kwargs)
    if ours:
        return _create_from_checkpoint(name, file, kwargs)
    model = timm.create_model(name, **kwargs)
    load_strictly(model, read_checkpoint(file), file)
    return model


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be a string, such as 'csnet_x1'")
    architecture, _, tag = name.partition(".")
    if ":" in name or (timm.is_model(architecture) and not tag):
        return
    if timm.is_model(architecture):
        tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", include_tags=True)]
        if tag not in tags:
            raise UnknownModelError(f"{architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}")
        return
    wanted = architecture.lower().replace("-", "_")
    known = dict.fromkeys([*list_models(), *timm.list_models()])
    nearest = [ours for ours in list_models() if wanted in ours][:3] if wanted else []
    nearest = nearest or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise UnknownModelError(f"unknown model {name!r}: {hint}goctconv.list_models() lists this package's models")


def _layout(architecture: str) -> Any:
    """Return the module that knows the authors' names for a network."""
    layouts = {"csf": _csf_checkpoint, "scfnet": _scfnet_checkpoint}
    return next((one for part, one in layouts.items() if is_model_in_modules(architecture, (part,))), _csnet_checkpoint)


def _create_from_checkpoint(name: str, file: str, kwargs: dict[str, Any]) -> nn.Module:
    """Return the model with the widths of its name or, if those do not fit, with the widths that the tensors have."""
    state = read_checkpoint(file)
    layout = _layout(name.partition(".")[0])
    published = layout.is_published_layout(state)
    wrapped = {key: kwargs.pop(key) for key in _WRAPPER if key in kwargs}
    learned = None if _WIDTHS & set(kwargs) else layout.widths_in(state)
    errors = []
    tries: list[dict[str, Any] | None] = [{}, learned]
    for widths in tries:
        if widths is None:
            continue
        model = cast("HubModel", timm.create_model(name, **kwargs, **widths))
        try:
            load_strictly(model, layout.from_published(state, model, file) if published else state, file)
        except CheckpointError as error:
            errors.append(error)
            continue
        if published:
            model.weights_license = layout.RELEASED_LICENSE
        if wrapped.get("features_only"):
            overlay = {"state_dict": model.state_dict()}
            features = timm.create_model(name, True, pretrained_cfg_overlay=overlay, **kwargs, **widths, **wrapped)
            cast("HubModel", features.model).weights_license = model.weights_license
            return features
        return model
    raise min(errors, key=lambda error: sum(len(names) for names in error.problems.values()))
