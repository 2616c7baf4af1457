"""Which activation follows a BatchNorm: modules, functions, in-place ones and hand-written ones; and what is none."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goctconv import DynamicWeightDecay
from reference.zoo.wiring import Followed

MODULES = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(inplace=True),
    nn.LeakyReLU(0.1, inplace=True),
    nn.PReLU(),
    nn.PReLU(5),
    nn.ELU(inplace=True),
    nn.CELU(0.7),
    nn.SELU(inplace=True),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(inplace=True),
    nn.Mish(inplace=True),
    nn.Hardswish(inplace=True),
    nn.Hardsigmoid(inplace=True),
    nn.Hardtanh(),
    nn.Sigmoid(),
    nn.LogSigmoid(),
    nn.Tanh(),
    nn.Tanhshrink(),
    nn.Softplus(),
    nn.Softsign(),
    nn.Softshrink(0.3),
    nn.Hardshrink(0.3),
    nn.Threshold(0.1, 20),
    nn.Sequential(nn.Identity(), nn.SiLU()),
]

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu in place": F.relu_,
    "method": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_(0, 6),
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "swish": lambda x: x * x.sigmoid(),
    "swish in place": lambda x: x.mul_(x.sigmoid()),
    "hard swish": lambda x: x * F.relu6(x + 3) / 6,
    "hard swish in place": lambda x: x.mul(F.hardtanh(x + 3, 0, 6)).mul_(1 / 6),
    "mish": lambda x: x * torch.tanh(F.softplus(x)),
    "gelu": lambda x: 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3))),
    "celu in place": F.celu_,
    "absolute value": lambda x: x.abs(),
}

WITHOUT: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "sum, then activation": lambda x: F.relu(x + torch.ones_like(x)),
    "sum in place, then activation": lambda x: F.relu(x.add_(torch.ones_like(x))),
    "concatenation, then activation": lambda x: F.relu(torch.cat([x, x], 1)),
    "pooling, then activation": lambda x: F.relu(F.avg_pool2d(x, 2)),
    "scaling": lambda x: 0.5 * x,
    "gate of its own": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "gated linear unit": lambda x: F.glu(x[:, :4], 1),
    "half of it": lambda x: F.relu(x[:, :2]),
}

# What is read is the activation, not what is made of it.
FURTHER: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "scaled": (lambda x: 1.7 * F.relu(x), F.relu),
    "squared": (lambda x: F.relu(x) ** 2, F.relu),
    "two activations": (lambda x: torch.sigmoid(F.relu(x)), F.relu),
    "two branches": (lambda x: torch.cat([F.silu(x), x.sigmoid()], 1), F.silu),
    "pooled": (lambda x: F.relu(x).mean((2, 3)), F.relu),
    "flattened before": (lambda x: F.silu(x.flatten(2)), F.silu),
    "channels last before": (lambda x: F.hardswish(x.permute(0, 2, 3, 1)), F.hardswish),
    "flattened before, in place": (lambda x: F.relu_(x.view(x.shape[0], -1)), F.relu),
    "shuffled before": (lambda x: F.relu(x.view(3, 5, 2, 4, 6).transpose(2, 3).reshape(3, 5, 8, 6)), F.relu),
    "swish, flattened": (lambda x: x.flatten(2) * x.flatten(2).sigmoid(), F.silu),
    "swish, channels last": (lambda x: x.permute(0, 2, 3, 1) * x.permute(0, 2, 3, 1).sigmoid(), F.silu),
    "converted before": (lambda x: F.relu(x.float()), F.relu),
}


def read(behind: Callable[[Tensor], Tensor]) -> tuple[DynamicWeightDecay, Tensor, Tensor]:
    """Train two steps; return the optimizer, the BatchNorm's output and the network's, the same in both."""
    net = Followed(behind).double().train()
    nn.init.uniform_(net.norm.weight, -1.3, 1.3)
    nn.init.normal_(net.norm.bias)
    inputs = torch.randn(3, 5, 8, 6, dtype=torch.float64)
    optimizer = DynamicWeightDecay(torch.optim.SGD([net.norm.weight, net.norm.bias], lr=0.0), net)
    handle = net.norm.register_forward_hook(lambda _m, _i, output: kept.append(output.detach().clone()))
    seen = []
    kept: list[Tensor] = []
    for _ in range(2):
        output = net(inputs)
        output.double().mean().backward()
        optimizer.step()
        seen.append(optimizer.metrics()["norm"].metric)
    handle.remove()
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-12, atol=0)  # the pass that finds it, and one that reads it
    return optimizer, kept[-1], output.detach()


def gap(activation: Tensor) -> Tensor:
    return activation.double().mean((2, 3)).abs().mean(0)


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_modules(module: nn.Module) -> None:
    optimizer, output, activation = read(module)
    statistics = optimizer.metrics()["norm"]
    inner = module[1] if isinstance(module, nn.Sequential) else module
    assert statistics.activation in {f"behind ({type(inner).__name__})", f"behind.1 ({type(inner).__name__})"}
    torch.testing.assert_close(statistics.metric, gap(activation), rtol=1e-12, atol=0)
    path = optimizer._watch.layers["norm"].path
    assert path is not None
    torch.testing.assert_close(path.reproduce(output), activation, rtol=1e-12, atol=1e-15)  # as compiled code does


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions(function: Callable[[Tensor], Tensor]) -> None:
    optimizer, _, activation = read(function)
    torch.testing.assert_close(optimizer.metrics()["norm"].metric, gap(activation), rtol=1e-12, atol=0)
    assert optimizer.metrics()["norm"].activation.isidentifier()


@pytest.mark.parametrize("function", WITHOUT.values(), ids=WITHOUT)
def test_where_none_follows_the_output_is_read(function: Callable[[Tensor], Tensor]) -> None:
    optimizer, output, _ = read(function)
    assert optimizer.metrics()["norm"].activation == "its output"
    torch.testing.assert_close(optimizer.metrics()["norm"].metric, gap(output), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("function", "activation"), FURTHER.values(), ids=FURTHER)
def test_only_the_activation_is_read(
    function: Callable[[Tensor], Tensor], activation: Callable[[Tensor], Tensor]
) -> None:
    optimizer, output, _ = read(function)
    expected = gap(activation(output))
    torch.testing.assert_close(optimizer.metrics()["norm"].metric, expected, rtol=1e-6, atol=0)


def test_randomized_slopes() -> None:
    """RReLU as a module is read as it is; as a function it is reproduced with the mean slope."""
    optimizer, output, _ = read(lambda x: F.leaky_relu(x, (1 / 8 + 1 / 3) / 2))
    expected = optimizer.metrics()["norm"].metric
    torch.testing.assert_close(expected, gap(F.leaky_relu(output, (1 / 8 + 1 / 3) / 2)), rtol=1e-12, atol=0)
    net = Followed(lambda x: F.rrelu(x, training=True)).double().train()
    optimizer = DynamicWeightDecay(torch.optim.SGD([*net.norm.parameters()], lr=0.0), net)
    inputs = torch.randn(3, 5, 8, 6, dtype=torch.float64)
    for _ in range(2):
        net(inputs).mean().backward()
        optimizer.step()
    reproduced = gap(F.leaky_relu(F.batch_norm(inputs, None, None, training=True), (1 / 8 + 1 / 3) / 2))
    torch.testing.assert_close(optimizer.metrics()["norm"].metric, reproduced, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("behind", "activation"),
    [
        (lambda x: x.view(3, 2, 3, 6, 6).transpose(1, 2).reshape(3, 6, 6, 6).relu(), F.relu),
        (lambda x: x.permute(0, 2, 3, 1).relu(), F.relu),
        (lambda x: x.permute(0, 2, 3, 1).contiguous().relu_(), F.relu),
        (lambda x: x * x.transpose(1, 2).sigmoid(), torch.sigmoid),
    ],
    ids=["shuffle", "channels last", "channels last copy", "meets its transpose"],
)
def test_rearrangements_of_equal_shape(
    behind: Callable[[Tensor], Tensor], activation: Callable[[Tensor], Tensor]
) -> None:
    """As many channels as rows and columns: shapes do not tell which is which."""
    net = nn.Sequential(nn.BatchNorm2d(6), nn.Identity()).double()
    net.forward = lambda x: behind(net[0](x))  # type: ignore[method-assign]
    nn.init.normal_(net[0].bias)
    optimizer = DynamicWeightDecay(torch.optim.SGD(net.parameters(), lr=0.0), net)
    inputs = torch.randn(3, 6, 6, 6, dtype=torch.float64)
    for _ in range(2):
        net(inputs).mean().backward()
        optimizer.step()
        output = F.batch_norm(inputs, None, None, net[0].weight, net[0].bias, training=True).detach()
        torch.testing.assert_close(optimizer.metrics()["0"].metric, gap(activation(output)), rtol=1e-12, atol=0)


def test_dropout_before_the_activation_is_left_out() -> None:
    """M is that of the activation of the BatchNorm's output, the same in every step."""
    net = nn.Sequential(nn.BatchNorm2d(5), nn.Dropout(0.5), nn.ReLU()).double().train()
    optimizer = DynamicWeightDecay(torch.optim.SGD(net.parameters(), lr=0.0), net)
    inputs = torch.randn(3, 5, 8, 6, dtype=torch.float64)
    for _ in range(2):
        net(inputs).mean().backward()
        optimizer.step()
        output = F.batch_norm(inputs, None, None, training=True)
        torch.testing.assert_close(optimizer.metrics()["0"].metric, gap(F.relu(output)), rtol=1e-12, atol=0)


def test_the_first_pass_keeps_nothing() -> None:
    """Its tensors must not wait for the garbage collector."""
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    optimizer = DynamicWeightDecay(torch.optim.SGD(net.parameters(), lr=0.1), net)
    alive = []
    net[1].register_forward_hook(lambda _m, _i, output: alive.append(weakref.ref(output)))
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            net(torch.rand(2, 3, 8, 8)).mean().backward()
            optimizer.step()
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()


CHECKS: dict[str, Callable[[Tensor], object]] = {
    "is there a NaN": lambda x: torch.isnan(x).any(),
    "is all of it finite": lambda x: torch.isfinite(x).all(),
    "logging": lambda x: x.detach().abs().mean(),
    "logging without gradients": lambda x: torch.no_grad()((x**2).mean)(),
    "share of dead units": lambda x: (x > 0).float().mean(),
    "kept for later": lambda x: x.sigmoid(),
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("activation", [F.relu, lambda x: x], ids=["relu", "none"])
def test_what_the_output_does_not_depend_on_is_no_activation(
    check: Callable[[Tensor], object], activation: Callable[[Tensor], Tensor]
) -> None:
    def behind(x: Tensor) -> Tensor:
        check(x)
        return activation(x)

    optimizer, output, _ = read(behind)
    torch.testing.assert_close(optimizer.metrics()["norm"].metric, gap(activation(output)), rtol=1e-12, atol=0)


def run_by_layers(model: nn.Sequential, images: Tensor) -> Tensor:
    for layer in model:
        images = layer(images)
    return images


@pytest.mark.parametrize(
    ("make", "run"),
    [
        (
            lambda: timm.create_model("resnet10t", num_classes=3),
            lambda model, images: model.forward_head(model.forward_features(images)),
        ),
        (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.SiLU(), nn.Conv2d(5, 2, 1)), run_by_layers),
        (lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), nn.ReLU()), run_by_layers),
    ],
    ids=["forward_features", "layer by layer", "block by block"],
)
def test_a_model_that_is_not_called_as_a_whole(
    make: Callable[[], nn.Module], run: Callable[[nn.Module, Tensor], Tensor]
) -> None:
    whole = make().double().train()
    parts = copy.deepcopy(whole)
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    expected = DynamicWeightDecay(torch.optim.SGD(whole.parameters(), lr=0.1), whole)
    optimizer = DynamicWeightDecay(torch.optim.SGD(parts.parameters(), lr=0.1), parts)
    for _ in range(2):
        for one, its in ((lambda: whole(images), expected), (lambda: run(parts, images), optimizer)):
            its.zero_grad()
            one().square().mean().backward()
            its.step()
        assert optimizer.metrics().keys() == expected.metrics().keys()
        for name, statistics in optimizer.metrics().items():
            assert statistics.activation == expected.metrics()[name].activation
            assert statistics.images == 4
            torch.testing.assert_close(statistics.metric, expected.metrics()[name].metric, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupt_of_the_first_pass_leaves_nothing(error: type[BaseException]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten())
    optimizer = DynamicWeightDecay(torch.optim.SGD(net.parameters(), lr=0.1), net)

    def interrupt(*_: object) -> None:
        raise error

    handle = net[2].register_forward_pre_hook(interrupt)
    with pytest.raises(error):
        net(torch.rand(2, 3, 8, 8))
    handle.remove()
    net(torch.rand(2, 3, 8, 8)).mean().backward()
    optimizer.step()
    assert (optimizer.metrics()["1"].activation, optimizer.metrics()["1"].images) == ("2 (ReLU)", 2)
    assert not torch.utils._python_dispatch._get_current_dispatch_mode()


def test_transformed_passes_do_not_count() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, track_running_stats=False), nn.ReLU())
    optimizer = DynamicWeightDecay(torch.optim.SGD(net.parameters(), lr=0.1), net)
    images = torch.rand(2, 3, 8, 8)
    parameters = dict(net.named_parameters())

    def loss(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(net, values, (images,)).mean()

    for _ in range(2):
        torch.func.grad(loss)(parameters)
        net(images).mean().backward()
        optimizer.step()
        assert (optimizer.metrics()["1"].activation, optimizer.metrics()["1"].images) == ("2 (ReLU)", 2)


def test_long_chains_are_followed_quickly() -> None:
    """Every value is visited once, though each is made of the one before in two ways."""

    def behind(x: Tensor) -> Tensor:
        y = F.relu(x)
        for _ in range(40):
            x = x + 0.5 * x
        return x + y

    assert read(behind)[0].metrics()["norm"].activation == "add"
