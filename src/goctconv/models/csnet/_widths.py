"""The widths of a CSNet as data: the published rules, the published learned ones, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from typing_extensions import NotRequired, TypedDict

from ..._features import ChannelError, even_branches, parse_channels, width_of

BlockChannels: TypeAlias = int | list[int]

STAGES = 5
PUBLISHED_DEPTHS = (1, 3, 4, 6, 4)
FIRST_FUSABLE_STAGE = 1
DILATIONS = (1, 2, 4, 8, 16)


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

    Raises:
        ChannelError: A width, ratio, number of blocks or set of stages that cannot be.
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
        raise ChannelError(
            f"base_width={base_width} is too narrow for split={split!r}: both shares round to 0 channels"
        )
    if not fuse_stages:
        return {"stages": stages}
    fuse = [cast("int", stages[stage][-1]) // 3 for stage in fuse_stages]
    dilated = [list(even_branches(width, len(DILATIONS))) for width in fuse]
    return {"stages": stages, "fuse": fuse, "dilated": dilated, "fused": sum(fuse)}


def _check_rules(
    base_width: int, split: tuple[float, float], depths: Sequence[int], fuse_stages: Sequence[int]
) -> None:
    if width_of(base_width, f"base_width={base_width!r}") < 1:
        raise ChannelError(f"base_width={base_width} must be at least 1")
    if len(split) != 2 or not all(0 <= share < float("inf") for share in split) or sum(split) == 0:
        raise ChannelError(
            f"split={split!r} must be two shares >= 0, high and low resolution, such as (5, 5) or (1, 0)"
        )
    if len(depths) != STAGES or any(depth < 1 for depth in depths):
        raise ChannelError(f"depths={depths!r} must be {STAGES} numbers of blocks >= 1")
    check_fuse_stages(fuse_stages)


def check_fuse_stages(fuse_stages: Sequence[int]) -> None:
    """Check that the stages fed to the head are known and in order.

    Raises:
        ChannelError: They are not.
    """
    known = range(FIRST_FUSABLE_STAGE, STAGES)
    if list(fuse_stages) != sorted(set(fuse_stages)) or any(stage not in known for stage in fuse_stages):
        raise ChannelError(
            f"fuse_stages={tuple(fuse_stages)!r} must be increasing stages out of {tuple(known)}, such as (2, 3, 4), "
            "or () for the extractor alone"
        )


def parse_csnet_channels(channels: Any, fuse_stages: Sequence[int]) -> CSNetChannels:
    """Return learned channel lists, having checked them against the architecture.

    Raises:
        ChannelError: Wrong number of stages, scales or branches, or an impossible width; the message says where.
        TypeError: It is not a mapping of lists of integers.
    """
    check_fuse_stages(fuse_stages)
    head = {"fuse", "dilated", "fused"} if fuse_stages else set()
    if not isinstance(channels, dict) or set(channels) != {"stages", *head}:
        given = sorted(channels) if isinstance(channels, dict) else type(channels).__name__
        raise TypeError(f"channels must be a dict with keys {sorted({'stages', *head})}, got {given}")
    stages = channels["stages"]
    if len(stages) != STAGES or not all(stages):
        raise ChannelError(f"channels['stages'] must list {STAGES} stages of at least one block, got {stages!r}")
    parsed: CSNetChannels = {
        "stages": [
            [_parse_block(block, f"channels['stages'][{stage}][{index}]") for index, block in enumerate(blocks)]
            for stage, blocks in enumerate(stages)
        ]
    }
    for stage in {*fuse_stages, STAGES - 1}:
        if not isinstance(parsed["stages"][stage][-1], int):
            raise ChannelError(
                f"channels['stages'][{stage}][-1]={stages[stage][-1]!r} must be one integer: "
                "the head and the prediction take one scale of each stage"
            )
    if not fuse_stages:
        return parsed
    return {**parsed, **_parse_head(channels, len(fuse_stages))}


def _parse_head(channels: Any, scales: int) -> Any:
    fuse = list(parse_channels(tuple(channels["fuse"]), "channels['fuse']"))
    dilated = [
        [width_of(width, f"channels['dilated'][{scale}]={branches!r}") for width in branches]
        for scale, branches in enumerate(channels["dilated"])
    ]
    for name, rows in (("fuse", fuse), ("dilated", dilated)):
        if len(rows) != scales:
            raise ChannelError(f"channels[{name!r}]={rows!r} must have one entry for each of {scales} fused stages")
    return {"fuse": fuse, "dilated": dilated, "fused": parse_channels(channels["fused"], "channels['fused']")[0]}


def _parse_block(block: Any, name: str) -> BlockChannels:
    if not isinstance(block, Sequence):
        return parse_channels(block, name)[0]
    widths = list(parse_channels(block, name))
    if len(widths) != 2:
        raise ChannelError(f"{name}={block!r} must be two widths, high and low resolution, or one integer")
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
