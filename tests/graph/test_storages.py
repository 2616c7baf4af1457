"""Identity of tensors: values by storage, which views share, in-place operations keep, and no other tensor inherits."""

from __future__ import annotations

import torch

from goctconv.graph import StorageMap, functional, geometry_of, is_pointwise, name_of


def test_views_share_a_value_and_copies_do_not() -> None:
    values: StorageMap[str] = StorageMap()
    tensor = torch.zeros(6, 5)
    values.set(tensor, "found")
    assert values.get(tensor[2:]) == values.get(tensor.t().add_(1)) == "found"
    assert values.get(tensor.clone()) is None
    values.forget(tensor.view(-1))
    assert values.get(tensor) is None


def test_a_value_goes_with_its_storage() -> None:
    """A new tensor at the same address is another one."""
    values: StorageMap[int] = StorageMap()
    for number in range(100):
        tensor = torch.zeros(1000)
        assert values.get(tensor) is None
        values.set(tensor, number)
        assert values.get(tensor) == number
        del tensor


def test_sparse_tensors_have_no_value() -> None:
    values: StorageMap[int] = StorageMap()
    sparse = torch.eye(3).to_sparse()
    values.set(sparse, 1)
    assert values.get(sparse) is None


def test_geometry_tells_views_apart() -> None:
    tensor = torch.zeros(4, 6)
    views = [tensor, tensor[1:], tensor[:, 1:], tensor.t(), tensor.view(6, 4), tensor.view(torch.int32)]
    assert len({geometry_of(view) for view in views}) == len(views)
    assert geometry_of(tensor.view(4, 6)) == geometry_of(tensor)


def test_in_place_operators_have_functional_twins() -> None:
    aten = torch.ops.aten
    assert name_of(aten.relu_.default) == name_of(aten.relu.default) == "relu"
    assert functional(aten.relu_.default) is aten.relu.default
    assert functional(aten.mul_.Tensor) is aten.mul.Tensor
    assert functional(aten.log_sigmoid_forward.default) is aten.log_sigmoid.default
    assert is_pointwise(aten.hardswish_.default)
    assert not is_pointwise(aten.mm.default)
