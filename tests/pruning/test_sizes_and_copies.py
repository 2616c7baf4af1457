"""Equality at every size, and of copies that compute with weights of their own."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goctconv import prune_channels
from goctconv.pruning import PruningError
from reference.random_networks import difference, randomize


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def pad_to(x: Tensor, size: torch.Size, mode: str) -> Tensor:
    dy, dx = size[-2] - x.shape[-2], size[-1] - x.shape[-1]
    if mode == "branch" and not (dy or dx):
        return x
    sides = [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2]
    if mode in {"one", "branch"}:
        return F.pad(x, sides, value=float(mode == "one"))
    if mode == "rows then columns":
        return F.pad(F.pad(x, [0, 0, *sides[2:]]), [*sides[:2], 0, 0])
    return F.pad(x, sides) if mode == "zeros" else F.pad(x, [0, dx, 0, dy], mode="replicate")


class Unet(nn.Module):
    """Enlarges by two and pads to the size of the skip connection, by nothing at even sizes."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.fine, self.coarse = block(3, 8), nn.Sequential(nn.MaxPool2d(2), block(8, 12))
        self.joined, self.last = block(20, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0)
        return self.last(self.joined(torch.cat([fine, pad_to(coarse, fine.shape, self.mode)], 1)))


class Same(nn.Module):
    """A convolution of stride 2 behind a border as TensorFlow's, which is nothing at some sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = block(3, 8), nn.Conv2d(8, 8, 2, 2), block(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        rows, columns = (-size % 2 for size in x.shape[-2:])
        return self.last(self.second(F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])))


SIZES = [(16, 16), (32, 16), (17, 16), (17, 19), (33, 35), (15, 18)]


@pytest.mark.parametrize(
    "make",
    [
        *(functools.partial(Unet, mode) for mode in ("zeros", "one", "replicate", "rows then columns", "branch")),
        Same,
    ],
    ids=["zeros", "one", "replicate", "in turns", "branch", "same"],
)
@pytest.mark.parametrize("bn_bias", ["keep", "zero"])
def test_pads_whose_width_depends_on_the_size(make: Callable[[], nn.Module], bn_bias: str) -> None:
    torch.manual_seed(0)
    model = make().double().eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.05, 1.35)
        nn.init.normal_(norm.bias, 0, 0.3)
    result = prune_channels(model, torch.zeros(1, 3, 16, 16).double(), ratio=0.4, bn_bias=bn_bias)
    masked = result.plan.mask(copy.deepcopy(model)).eval()
    assert result.report.removed
    for size in SIZES:
        x = torch.rand(1, 3, *size).double()
        with torch.no_grad():
            expected = masked(x)
            assert (result.model.eval()(x) - expected).abs().max() <= 1e-11 * expected.abs().max(), size


class PadsIf(nn.Module):
    """A border in front of a 1×1 convolution, at sizes of some kind only."""

    def __init__(self, pads: Callable[[int], bool]) -> None:
        super().__init__()
        self.pads = pads
        self.first, self.last = block(3, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        y = self.first(x)
        return self.last(F.pad(y, (0, 1, 0, 1)) if self.pads(width) else y)


def is_even(width: int) -> bool:
    return width % 2 == 0


def is_large(width: int) -> bool:
    return width > 32


@pytest.mark.parametrize(("pads", "sizes"), [(is_even, (17, 33, 65, 129)), (is_large, (32,))], ids=["even", "large"])
def test_a_size_of_the_other_kind_is_compared(pads: Callable[[int], bool], sizes: tuple[int, ...]) -> None:
    for size in sizes:
        torch.manual_seed(0)
        model = PadsIf(pads).double().eval()
        nn.init.uniform_(model.first[1].weight, 0.05, 1.35)
        nn.init.normal_(model.first[1].bias, 0, 0.3)
        result = prune_channels(model, torch.rand(1, 3, size, size).double(), ratio=0.5)
        masked = result.plan.mask(copy.deepcopy(model)).eval()
        for other in (16, 17, 32, 33, 48):
            x = torch.rand(2, 3, other, other).double()
            with torch.no_grad():
                torch.testing.assert_close(result.model.eval()(x), masked(x), rtol=1e-10, atol=1e-12)


class TwoSizes(nn.Module):
    """Takes an image and one of twice its size, and makes a number of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = block(3, 8), block(3, 8), nn.Conv2d(8, 4, 1)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        return self.last(self.first(small) + F.avg_pool2d(self.second(large), 2) + small.shape[-1] * 0.1)


def test_images_of_two_sizes_are_compared_at_others_of_the_same_ratio() -> None:
    torch.manual_seed(0)
    model = TwoSizes().double().eval()
    for norm in (model.first[1], model.second[1]):
        nn.init.uniform_(norm.weight, 0.05, 1.35)
        nn.init.normal_(norm.bias, 0, 0.3)
    result = prune_channels(model, (torch.rand(1, 3, 16, 16).double(), torch.rand(1, 3, 32, 32).double()), ratio=0.5)
    masked = result.plan.mask(copy.deepcopy(model)).eval()
    assert not any("no second size" in note for note in result.report.notes)
    calls = (torch.rand(1, 3, 24, 20).double(), torch.rand(1, 3, 48, 40).double())
    with torch.no_grad():
        torch.testing.assert_close(result.model(*calls), masked(*calls), rtol=1e-10, atol=1e-12)


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    nn.init.uniform_(model[1].weight)
    nn.init.normal_(model[1].bias)
    return model


class Holding(nn.Module):
    """Runs a network through something that it holds."""

    def __init__(self, hold: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.net = plain()
        self.run = hold(self.net)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def compiled_in_place() -> nn.Module:
    model = plain()
    model.compile(backend="eager")
    return model


def compiled_inside() -> nn.Module:
    model = nn.Sequential(plain(), nn.ReLU())
    model[0].compile(backend="eager")
    return model


def with_method() -> nn.Module:
    model = plain()
    model.forward = types.MethodType(lambda self, x: 2 * nn.Sequential.forward(self, x), model)  # type: ignore[method-assign]
    return model


def with_function() -> nn.Module:
    model = plain()
    before = model.forward
    model.forward = lambda x: 2 * before(x)  # type: ignore[method-assign]
    return model


def with_function_inside() -> nn.Module:
    model = plain()
    before = model[0].forward
    model[0].forward = lambda x: 2 * before(x)
    return model


def with_compiled_method() -> nn.Module:
    model = plain()
    model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]
    return model


COPYABLE: dict[str, Callable[[], nn.Module]] = {
    "compiled in place": compiled_in_place,
    "compiled inside": compiled_inside,
    "partial": lambda: Holding(functools.partial),
    "bound method": lambda: Holding(lambda net: net.forward),
    "method": with_method,
}


class HeadInLambda(nn.Module):
    """Runs a head without BatchNorm through a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.fc = plain(), nn.Conv2d(4, 2, 1)
        self._head = {"out": lambda y: 2 * self.fc(y)}

    def forward(self, x: Tensor) -> Tensor:
        return self._head["out"](self.net(x))


class HeadIn(nn.Module):
    """Runs a head through what a function makes of it."""

    def __init__(self, make: Callable[[nn.Module], Any], call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.fc = plain(), nn.Conv2d(4, 2, 1)
        self.held, self.call = make(self.fc), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.held, self.net(x))


def with_hook() -> nn.Module:
    model = HeadIn(lambda _: 2, lambda factor, y: factor * y)
    head = model.fc
    model.net.register_forward_hook(lambda _, __, output: head(output))
    return model


GLOBAL = nn.Conv2d(4, 2, 1)


def with_global() -> nn.Module:
    model = HeadIn(lambda _: lambda y: 2 * GLOBAL(y), lambda held, y: held(y))
    model.fc = GLOBAL
    return model


TIED: dict[str, Callable[[], nn.Module]] = {
    "lambda": lambda: Holding(lambda net: lambda x: 2 * net(x)),
    "lambda in a dict": HeadInLambda,
    "function": with_function,
    "function inside": with_function_inside,
    "compiled method": with_compiled_method,
    "default of a lambda": lambda: HeadIn(lambda fc: lambda y, fc=fc: fc(y), lambda held, y: held(y)),
    "weight in a lambda": lambda: HeadIn(
        lambda fc: lambda y, *, weight=fc.weight: torch.conv2d(y, weight), lambda held, y: held(y)
    ),
    "partial": lambda: HeadIn(lambda fc: functools.partial(lambda n, y: n * fc(y), 2), lambda held, y: held(y)),
    "nested": lambda: HeadIn(lambda fc: {"heads": [lambda y: 2 * fc(y)]}, lambda held, y: held["heads"][0](y)),
    "object": lambda: HeadIn(lambda fc: types.SimpleNamespace(head=lambda y: 2 * fc(y)), lambda held, y: held.head(y)),
    "global": with_global,
    "hook": with_hook,
}


@pytest.mark.parametrize("name", COPYABLE)
def test_copies_compute_with_their_own_weights(name: str) -> None:
    model, x = COPYABLE[name](), torch.rand(2, 3, 12, 12)
    expected = model(x)
    result = prune_channels(model, x, ratio=0.3)
    assert (result.report.removed, result.report.masked) == (5, 5)
    masked = result.plan.mask(model)
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), masked(x), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(expected, masked(x))
        for parameter in result.model.parameters():
            parameter.zero_()
        assert not result.model(x).any()


@pytest.mark.parametrize("name", TIED)
def test_a_copy_that_computes_with_weights_of_the_original_is_refused(name: str) -> None:
    model = TIED[name]()
    before = {name: own.detach().clone() for name, own in model.named_parameters()}
    with pytest.raises(PruningError, match=r"computes with weights of the original, such as .*weight"):
        prune_channels(model, torch.rand(2, 3, 12, 12), ratio=0.3)
    assert all(torch.equal(own, before[name]) for name, own in model.named_parameters())


class CopiesItself(nn.Module):
    """A network whose class says how it is copied, without regard to what was copied before."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Unet("zeros")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class MadeAnew(CopiesItself):
    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        made = type(self)().to(next(self.parameters()).dtype).train(self.training)
        made.load_state_dict(self.state_dict())  # which fails for other widths
        return made


class OwnMemo(CopiesItself):
    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        made = type(self)()
        made.body = copy.deepcopy(self.body)
        return made


class SharesParts(CopiesItself):
    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        made = type(self)()
        made.body = self.body
        return made


class IsItself(CopiesItself):
    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        return self


@pytest.mark.parametrize("kind", [MadeAnew, OwnMemo, SharesParts, IsItself])
@pytest.mark.parametrize("is_noted", [False, True])
def test_classes_that_copy_themselves_in_other_ways(kind: type[CopiesItself], is_noted: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind()).double().eval()
    randomize(model, share=0.4, seed=1)
    if is_noted:
        for parameter in model.parameters():
            parameter.is_special = True  # type: ignore[attr-defined]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    result = prune_channels(model, x, threshold=1e-20)
    assert result.report.removed > 0
    for slim in (result.model, result.plan.apply(model)):
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert {id(own) for own in model.parameters()}.isdisjoint(map(id, slim.parameters()))
    with torch.no_grad():
        expected, slim = result.plan.mask(model)(x), result.model(x)
        assert difference(expected, slim) <= 1e-12


FIRST_IMPORT_ON_ANOTHER_DEVICE = """
import torch
from torch import nn
with torch.device("meta"):
    import goctconv.pruning
model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 3)).eval()
nn.init.zeros_(model[1].weight[:2])
print(goctconv.prune_channels(model, torch.rand(1, 3, 9, 9), threshold=1e-9).report.removed)
"""


def test_the_default_device_of_the_first_import_does_not_matter() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIRST_IMPORT_ON_ANOTHER_DEVICE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2\n"
