"""GOctConv, and its oracle, reproduce outputs and gradients recorded from the authors' implementation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from goctconv import GOctConv
from reference import octave
from reference.compare import assert_equal

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "two_to_two_3x3",
    "two_to_two_1x1",
    "image_to_two_3x3",
    "two_to_two_3x3_stride2",
    "two_to_one_1x1",
    "three_to_three_1x1",
    "three_to_one_1x1",
    "four_to_two_3x3",
]
OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-6, 5e-6


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Any]:
    return {case["name"]: case for case in json.loads((shared / "reference/goctconv_csnet.json").read_text())}


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "reference/goctconv_csnet.npz") as archive:
        return dict(archive)


def blocks(whole: np.ndarray, inputs: list[int], outputs: list[int]) -> dict[tuple[int, int], np.ndarray]:
    """The part of one large weight (or of its gradient) that belongs to each path."""
    rows, columns = np.cumsum([0, *outputs]), np.cumsum([0, *inputs])
    return {
        (i, j): whole[rows[j] : rows[j + 1], columns[i] : columns[i + 1]]
        for i in range(len(inputs))
        for j in range(len(outputs))
    }


def test_every_case_is_named_here(cases):
    assert list(cases) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_oracle(cases, arrays, name):
    case = cases[name]
    inputs = [arrays[f"{name}/in{i}"].astype(np.float64) for i in range(len(case["cin"]))]
    weights = blocks(arrays[f"{name}/weight"].astype(np.float64), case["cin"], case["cout"])
    outputs = octave.goctconv(inputs, weights, {}, case["cout"], stride=case["stride"])
    for j, output in enumerate(outputs):
        assert_equal(torch.from_numpy(arrays[f"{name}/out{j}"]), output, OUTPUT_TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("name", NAMES)
def test_layer(cases, arrays, name, dtype):
    case = cases[name]
    layer = GOctConv(case["cin"], case["cout"], case["k"], case["stride"], bias=False, dtype=dtype)
    weights = blocks(arrays[f"{name}/weight"], case["cin"], case["cout"])
    with torch.no_grad():
        for (i, j), weight in weights.items():
            layer.paths[f"{i}_to_{j}"].weight.copy_(torch.from_numpy(weight))
    inputs = tuple(
        torch.from_numpy(arrays[f"{name}/in{i}"]).to(dtype).requires_grad_() for i in range(len(case["cin"]))
    )
    outputs = layer(inputs)
    assert len(outputs) == len(case["cout"])
    for j, output in enumerate(outputs):
        assert_equal(output, arrays[f"{name}/out{j}"], OUTPUT_TOLERANCE)
    sum((x.flatten() * torch.arange(x.numel(), dtype=torch.float64).cos()).sum() for x in outputs).backward()
    for i, x in enumerate(inputs):
        assert_equal(x.grad, arrays[f"{name}/grad_in{i}"], GRADIENT_TOLERANCE)
    gradients = blocks(arrays[f"{name}/grad_weight"], case["cin"], case["cout"])
    whole = np.zeros_like(arrays[f"{name}/grad_weight"])
    for path, block in blocks(whole, case["cin"], case["cout"]).items():
        block[:] = layer.paths["{}_to_{}".format(*path)].weight.grad.numpy()
    assert len(gradients) == len(layer.paths)
    assert_equal(torch.from_numpy(whole), arrays[f"{name}/grad_weight"], GRADIENT_TOLERANCE)
