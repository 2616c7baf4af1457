"""Models by name."""

from __future__ import annotations

import difflib
import functools
import os
from typing import Any, cast

import timm
from torch import nn

from .._checks import ArgumentError, ArgumentTypeError, check_instance, unexpected_keyword
from .csf import CSF
from .csnet import CSNet
from .hub import (
    MODULES,
    CheckpointError,
    HubModel,
    UnknownModelError,
    check_fit,
    check_saved,
    create_planned,
    load_strictly,
    naming_damage,
    planned_folder,
    read_checkpoint,
    shapes_of,
    without_values,
)
from .scfnet import SCFNet

_FAMILIES: dict[str, type[HubModel]] = {"csf": CSF, "csnet": CSNet, "scfnet": SCFNet}
_SAVED = ("local-dir:", "hf-hub:", "hf_hub:")
_WRAPPER = ("features_only", "out_indices", "feature_cls")
_WIDTHS = {"channels", "fuse_stages", "base_width", "split", "depths", "fuse_channels", "norm", "width"}


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

    "csf" and "scfnet" stand on the backbone that ``backbone=`` names, any of timm's networks that gives features.

    Args:
        name: See `list_models`; or "local-dir:DIRECTORY" or "hf-hub:OWNER/NAME" for a network that was saved, which
            comes with its weights. A directory of `save_pruned` may hold any of timm's.
        pretrained: Whether to load the default weights of the model, or those of the tag behind its name. Those of
            csnet_x1_l come with the package; others are downloaded. Weights of others need ``accept_license``.
        checkpoint_path: A file of weights to load: the authors' ``.pth.tar``, a state dict, or safetensors.
        accept_license: The licence of the weights that you accept, such as "cc-by-nc-sa-4.0"; it is stored nowhere.
            The environment variable ``GOCTCONV_ACCEPT_LICENSES`` does the same.
        **kwargs: Arguments of the model, such as ``in_chans``, ``num_classes`` or ``channels``: those of
            `goctconv.models.CSNet`, `goctconv.models.CSF` and `goctconv.models.SCFNet`. Of the latter two
            ``pretrained_backbone=True`` downloads the weights that timm has for the backbone, whose licence then goes
            along with the network; a path is a file of its weights, loaded strictly. None stands for the default.

    Raises:
        UnknownModelError: No such name, or no such backbone; the nearest ones are suggested.
        LicenseError: The weights' licence has not been accepted.
        CheckpointError: The weights cannot be read or do not fit; all mismatches are listed.
        PruningError: A saved plan is for another model.
        FileNotFoundError: There is no file at ``checkpoint_path``.
        ConnectionError: The weights cannot be downloaded.
        ArgumentError: Both ``pretrained`` and ``checkpoint_path``; ``pretrained`` where nothing was released; arguments
            that the model does not have, or that cannot be; a backbone without features, or without these ones.

    Example:
        >>> import goctconv
        >>> model = goctconv.create_model("csnet_x1_l")
        >>> sum(p.numel() for p in model.parameters())
        93647

        >>> import torch
        >>> model = goctconv.create_model("csf", backbone="test_convnext")
        >>> model(torch.rand(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """
    _check_name(name)
    if not isinstance(pretrained, bool):
        raise ArgumentTypeError("pretrained", pretrained, "True or False", "a file goes to {checkpoint_path}")
    if accept_license is not None and not isinstance(accept_license, str):
        raise ArgumentTypeError("accept_license", accept_license, "the licence's name, such as 'cc-by-nc-sa-4.0'")
    if pretrained and checkpoint_path is not None:
        problem = "and {checkpoint_path} both name weights"
        raise ArgumentError("pretrained", True, problem=problem, cure="give one of them")
    try:
        return _create(name, pretrained, checkpoint_path, accept_license, kwargs)
    except TypeError as error:
        keyword = unexpected_keyword(error)
        if keyword is None or keyword not in kwargs:
            raise
        family = _family(name)
        cure = f"the arguments are those of goctconv.models.{family.__name__}" if family else ""
        raise ArgumentTypeError(keyword, kwargs[keyword], problem=f"is no argument of {name}", cure=cure) from error


def _create(
    name: str,
    pretrained: bool,
    checkpoint_path: str | os.PathLike[str] | None,
    accept_license: str | None,
    kwargs: dict[str, Any],
) -> nn.Module:
    check_saved(name, checkpoint_path, **kwargs)
    if folder := planned_folder(name):
        return create_planned(folder, checkpoint_path, **kwargs)
    family = _family(name)
    if accept_license is not None and pretrained and family:
        kwargs = {**kwargs, "accept_license": accept_license}
    if checkpoint_path is None:
        with naming_damage(name, kwargs, RuntimeError):  # which lists the tensors that do not fit
            return timm.create_model(name, pretrained=pretrained or name.startswith(_SAVED), **kwargs)
    file = os.fspath(checkpoint_path)
    if family:
        return _create_from_checkpoint(family, name, file, kwargs)
    model = timm.create_model(name, **kwargs)
    load_strictly(model, read_checkpoint(file), file)
    return model


def _family(name: str) -> type[HubModel] | None:
    """Return the class of a name of this package's models, None for others and for saved networks."""
    architecture = name.partition(".")[0]
    families = (family for module, family in _FAMILIES.items() if architecture in timm.list_models(module=module))
    return next(families, None)


def _check_name(name: str) -> None:
    architecture, _, tag = check_instance("name", name, str, "a string, such as 'csnet_x1'").partition(".")
    if ":" in name or (timm.is_model(architecture) and not tag):
        return
    if timm.is_model(architecture):
        tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", include_tags=True)]
        if tag not in tags:
            has = f"it has {', '.join(tags) or 'none'}"
            raise UnknownModelError.of("name", name, f"set of weights of {architecture}", (), has)
        return
    wanted = architecture.lower().replace("-", "_")
    known = dict.fromkeys([*list_models(), *timm.list_models()])
    close = [ours for ours in list_models() if wanted in ours][:3] if wanted else []
    close = close or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    raise UnknownModelError.of("name", name, "known model", close, "goctconv.list_models() lists this package's models")


def _create_from_checkpoint(family: type[HubModel], name: str, file: str, kwargs: dict[str, Any]) -> nn.Module:
    """Return the model with the widths of its name or, if those do not fit, with the widths that the tensors have."""
    state = read_checkpoint(file)
    layout = family.layout
    published = layout.matches(state)
    wrapped = {key: value for key, value in kwargs.items() if key in _WRAPPER}
    kwargs = {key: value for key, value in kwargs.items() if key not in _WRAPPER}
    learned = None if _WIDTHS & set(kwargs) else layout.widths(state)
    errors = []
    for widths in ({}, learned) if learned else ({},):
        try:
            make = functools.partial(timm.create_model, name, **kwargs, **widths)
            if widths:  # one tensor can tell any width, of layers whose tensors are not in the file
                empty = without_values(make)
                check_fit(layout.converted(state, empty, file) if published else state, shapes_of(empty), file)
            model = cast("HubModel", make())
            load_strictly(model, layout.converted(state, model, file) if published else state, file)
        except CheckpointError as error:
            errors.append(error)
            continue
        if published:
            model.weights_license = layout.license
        if wrapped.get("features_only"):
            overlay = {"state_dict": model.state_dict()}
            features = timm.create_model(name, True, pretrained_cfg_overlay=overlay, **kwargs, **widths, **wrapped)
            cast("HubModel", features.model).weights_license = model.weights_license
            return features
        return model
    raise min(errors, key=lambda error: sum(len(names) for names in error.problems.values()))
