"""How the loss of an image is made of those of its pixels."""

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["mean", "sum"]
