"""The widths of a CSNet as data: the published rules and learned widths, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from typing_extensions import NotRequired, TypedDict

from ..._checks import ArgumentTypeError, check_integer
from ..._features import ChannelError, parse_channels
from .._fusion_head import check_keys, parse_head, published_head

BlockChannels: TypeAlias = int | list[int]

STAGES = 5
PUBLISHED_DEPTHS = (1, 3, 4, 6, 4)
FIRST_FUSABLE_STAGE = 1


class CSNetChannels(TypedDict):
    """All widths of a CSNet; JSON holds it as it is.

    ``stages`` lists, per stage, the output of each ILBlock: ``[high, low]``, or one integer where the block outputs one
    scale. ``fuse``, ``dilated`` (per scale and dilation) and ``fused`` are the head's three layers; they are absent in
    a network without the head.
    """

    stages: list[list[BlockChannels]]
    fuse: NotRequired[list[int]]
    dilated: NotRequired[list[list[int]]]
    fused: NotRequired[int]


def published_channels(
    base_width: int, split: tuple[float, float], depths: Sequence[int], fuse_stages: Sequence[int]
) -> CSNetChannels:
    """Return the widths that the paper's rules give.

    Stages 0 and 1 have ``base_width`` channels, stage 2 twice and stages 3 and 4 four times as many, divided between
    high and low resolution by ``split``; the last block of stages 2-4, and of any stage fed to the head, outputs one
    scale. The head gives a third of a stage's channels to its scale, and divides it evenly over the dilations.
    """
    _check_rules(base_width, split, depths, fuse_stages)
    stages: list[list[BlockChannels]] = []
    for stage, (depth, factor) in enumerate(zip(depths, (1, 1, 2, 4, 4), strict=True)):
        width = factor * base_width
        blocks: list[BlockChannels] = [[round(width * share / sum(split)) for share in split] for _ in range(depth)]
        if stage >= 2 or stage in fuse_stages:
            blocks[-1] = width
        stages.append(blocks)
    if not any(stages[0][0] if isinstance(stages[0][0], list) else [1]):
        problem = f"is too narrow for {{split={split!r}}}: both shares round to 0 channels"
        raise ChannelError("base_width", base_width, problem=problem)
    if not fuse_stages:
        return {"stages": stages}
    fuse = [cast("int", stages[stage][-1]) // 3 for stage in fuse_stages]
    return {"stages": stages, **published_head(fuse)}


def _check_rules(
    base_width: int, split: tuple[float, float], depths: Sequence[int], fuse_stages: Sequence[int]
) -> None:
    if check_integer("base_width", base_width) < 1:
        raise ChannelError("base_width", base_width, "at least 1")
    if len(split) != 2 or not all(0 <= share < float("inf") for share in split) or sum(split) == 0:
        expected = "two shares of at least 0, of the high and low resolution, such as (5, 5) or (1, 0)"
        raise ChannelError("split", split, expected)
    if len(depths) != STAGES or any(depth < 1 for depth in depths):
        raise ChannelError("depths", depths, f"{STAGES} numbers of blocks of at least 1")
    check_fuse_stages(fuse_stages)


def check_fuse_stages(fuse_stages: Sequence[int]) -> None:
    """Check that the stages fed to the head are known and in order."""
    known = range(FIRST_FUSABLE_STAGE, STAGES)
    if list(fuse_stages) != sorted(set(fuse_stages)) or any(stage not in known for stage in fuse_stages):
        expected = f"increasing stages out of {tuple(known)}, such as (2, 3, 4), or () for the extractor alone"
        raise ChannelError("fuse_stages", tuple(fuse_stages), expected)


def parse_csnet_channels(channels: Any, fuse_stages: Sequence[int]) -> CSNetChannels:
    """Return learned channel lists, having checked them against the architecture."""
    check_fuse_stages(fuse_stages)
    head = ("fuse", "dilated", "fused") if fuse_stages else ()
    check_keys(channels, ("stages", *head), ArgumentTypeError)
    stages = channels["stages"]
    if len(stages) != STAGES or not all(stages):
        raise ChannelError("channels['stages']", stages, f"{STAGES} stages of at least one block")
    parsed: CSNetChannels = {
        "stages": [
            [_parse_block(block, f"channels['stages'][{stage}][{index}]") for index, block in enumerate(blocks)]
            for stage, blocks in enumerate(stages)
        ]
    }
    for stage in {*fuse_stages, STAGES - 1}:
        if not isinstance(parsed["stages"][stage][-1], int):
            expected = "one integer, as head and prediction take one scale of each stage"
            raise ChannelError(f"channels['stages'][{stage}][-1]", stages[stage][-1], expected)
    return {**parsed, **parse_head(channels, len(fuse_stages))} if fuse_stages else parsed


def _parse_block(block: Any, name: str) -> BlockChannels:
    if not isinstance(block, Sequence):
        return parse_channels(block, name)[0]
    widths = list(parse_channels(block, name))
    if len(widths) != 2:
        raise ChannelError(name, block, "two widths, high and low resolution, or one integer")
    return widths


X1_L: CSNetChannels = {
    "stages": [
        [[8, 10]],
        [[9, 10], [10, 10], [10, 10]],
        [[19, 13], [19, 17], [20, 12], 34],
        [[24, 21], [26, 27], [22, 18], [19, 18], [23, 18], 38],
        [[18, 29], [25, 24], [26, 20], 50],
    ],
    "fuse": [12, 24, 24],
    "dilated": [[1, 2, 2, 2, 4], [1, 4, 4, 4, 5], [2, 2, 4, 5, 4]],
    "fused": 60,
}

X2_L: CSNetChannels = {
    "stages": [
        [[13, 10]],
        [[13, 12], [18, 11], [18, 12]],
        [[28, 21], [34, 22], [31, 29], 51],
        [[23, 26], [27, 26], [25, 20], [17, 21], [19, 25], 38],
        [[18, 31], [31, 27], [26, 44], 64],
    ],
    "fuse": [17, 38, 32],
    "dilated": [[2, 1, 2, 2, 1], [0, 6, 6, 7, 5], [0, 1, 3, 7, 7]],
    "fused": 79,
}
