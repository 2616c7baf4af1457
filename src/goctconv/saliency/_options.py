"""Options that go through to `goctconv.learn_channels`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection

from ..learning import learn_channels


def check_options(options: Collection[str], caller: str) -> None:
    """Refuse options that there are not, by the name of the function that was called.

    Raises:
        TypeError: There is one.
    """
    known = inspect.signature(learn_channels).parameters
    for name in options:
        if name in known:
            continue
        if name in {"lr", "learning_rate"}:
            cure = "pass an optimizer, such as optimizer=functools.partial(torch.optim.Adam, lr=1e-3)"
        else:
            close = difflib.get_close_matches(name, known, n=1)
            cure = f"did you mean {close[0]}?" if close else "it takes its own and those of goctconv.learn_channels"
        raise TypeError(f"{caller}() has no argument {name!r}: {cure}")
