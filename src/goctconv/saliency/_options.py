"""Options that go through to `goctconv.learn_channels`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection
from typing import Any

from ..training import learn_channels

_MADE_HERE = {"model", "train_loader", "loss_fn", "step", "validate"}


def check_options(options: Collection[str], caller: Callable[..., Any]) -> None:
    """Refuse options that there are not, by the name of the function that was called.

    Raises:
        TypeError: There is one.
    """
    own = inspect.signature(caller).parameters.keys() - {"options"}
    passed_on = inspect.signature(learn_channels).parameters.keys() - _MADE_HERE
    for name in options:
        if name in passed_on:
            continue
        if name in {"lr", "learning_rate"}:
            cure = "pass an optimizer, such as optimizer=functools.partial(torch.optim.Adam, lr=1e-3)"
        else:
            close = difflib.get_close_matches(name, sorted(own | passed_on), n=1)
            cure = f"did you mean {close[0]}?" if close else "it takes its own and those of goctconv.learn_channels"
        raise TypeError(f"{caller.__name__}() has no argument {name!r}: {cure}")
