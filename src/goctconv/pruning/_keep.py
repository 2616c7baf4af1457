"""Layers that must keep all channels, as they are named."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from typing import TypeAlias

from torch import nn

from .._torch import BatchNorm

Keep: TypeAlias = "str | nn.Module | Iterable[str | nn.Module]"


def named_norms(norms: dict[str, BatchNorm], model: nn.Module, keep: Keep) -> set[str]:
    """Return the layers that ``keep`` names.

    Raises:
        ValueError: It names none.
        TypeError: It is of another kind.
    """
    found: set[str] = set()
    paths = dict(model.named_modules(remove_duplicate=False))
    names = {id(norm): name for name, norm in norms.items()}
    given = [keep] if isinstance(keep, str | nn.Module) or not isinstance(keep, Iterable) else list(keep)
    for one in given:
        if isinstance(one, nn.Module):
            modules = [one]
        elif isinstance(one, str):
            modules = [module for path, module in paths.items() if fnmatch.fnmatchcase(path, one)]
        else:
            raise TypeError(f"keep: {one!r} must be a module, its name or a glob")
        matched = {names[id(inner)] for module in modules for inner in module.modules() if id(inner) in names}
        if not matched:
            near = difflib.get_close_matches(one, norms, n=3, cutoff=0.3) if isinstance(one, str) else []
            what = repr(one) if isinstance(one, str) else f"this {type(one).__name__}"
            raise ValueError(
                f"keep: {what} matches no BatchNorm with a scale; there are {len(norms)}, such as "
                f"{', '.join(near or list(norms)[:3])}"
            )
        found |= matched
    return found
