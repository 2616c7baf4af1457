"""Widths such as pruning leaves: scales, branches and whole inputs of the head are absent."""

from __future__ import annotations

from typing import Any

PRUNED: dict[str, Any] = {
    "stages": [[[3, 2]], [[4, 0], [0, 5]], [[4, 4], 5], [[4, 3], [2, 0], 7], [[3, 6], 8]],
    "fuse": [2, 3, 0],
    "dilated": [[0, 1, 0, 0, 2], [1, 0, 2, 0, 0], [0, 0, 0, 0, 0]],
    "fused": 9,
}
