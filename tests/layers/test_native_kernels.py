"""Native BatchNorm and PReLU: no further from the truth than PyTorch's in every layout, and PyTorch's elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F  # the usual name
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import goctconv
from goctconv import ArgumentError, DynamicWeightDecay, PerScale, PReLU
from goctconv._torch import forward_hooks_of
from goctconv.layers import native_kernels
from goctconv.layers._per_scale import activated
from goctconv.layers.kernels import native_problem
from goctconv.layers.kernels._functions import Layout
from goctconv.layers.kernels._library import Library, library

pytestmark = pytest.mark.skipif(bool(native_problem()), reason="there is no C compiler")
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(5, 9, 23, 31), (2, 13, 37, 41), (3, 700, 5, 3), (7, 2000, 1, 1), (64, 40, 16, 1), (1301, 7), (5, 7, 401)]
SHAPES += [(3, 5, 7, 11, 13)]


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def pair(shape: tuple[int, ...], dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(1)
    norm, activation = BATCH_NORMS[len(shape)](shape[1]), PReLU(shape[1])
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    nn.init.uniform_(activation.weight, -0.5, 1.5)
    return nn.Sequential(norm, activation).to(dtype)


def features(shape: tuple[int, ...]) -> Tensor:
    """Return channels of spreads from 0.01 to 10 around means of up to 50."""
    torch.manual_seed(2)
    spread = torch.logspace(-2, 1, shape[1], dtype=torch.float64).view(-1, *[1] * (len(shape) - 2))
    return (torch.randn(shape, dtype=torch.float64) * spread + torch.randn_like(spread) * 5 * spread).float()


def per_scale(layers: nn.Sequential) -> list[PerScale]:
    """Return the layers as `Block` has them, whose BatchNorm and PReLU are computed in one."""
    return [PerScale(lambda _, layer=layer: layer, layers[0].num_features) for layer in layers]


def results(
    shape: tuple[int, ...], form: torch.memory_format, dtype: torch.dtype, *, native: bool, fused: bool = False
) -> list[Tensor]:
    """Return what two layers give: output, gradients and running statistics; and check who computed them."""
    layers, x = pair(shape, dtype), features(shape).to(dtype)
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    x = x.to(memory_format=form).requires_grad_()
    with native_kernels() if native else nullcontext():
        output = activated(*per_scale(layers), x) if fused else layers(x)
    assert output.grad_fn is not None
    kind = {(True, False): "NativePReLU", (True, True): "NativeBatchNorm"}.get((native, fused), "")
    assert output.grad_fn.name() == f"{kind}Backward" or not native
    assert output.stride() == x.stride() or shape[2:] == (1, 1)
    found = torch.autograd.grad(output, (x, *layers.parameters()), gradient)
    return [output.detach(), *found, layers[0].running_mean, layers[0].running_var]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_further_from_the_truth_than_pytorch(
    shape: tuple[int, ...], form: torch.memory_format, threads: int
) -> None:
    if form == torch.channels_last and len(shape) != 4:
        pytest.skip("of no such format")
    truth = results(shape, form, torch.float64, native=False)
    theirs = results(shape, form, torch.float32, native=False)
    for fused in (False, True)[: 1 + (len(shape) == 4)]:
        ours = results(shape, form, torch.float32, native=True, fused=fused)
        for exact, other, found in zip(truth, theirs, ours, strict=True):
            assert found.dtype == torch.float32
            size = exact.abs().max()
            error, allowed = (found - exact).abs().max() / size, (other - exact).abs().max() / size
            assert error <= torch.clamp(1.5 * allowed, min=3e-6), (threads, error, allowed)


def test_threads_change_nothing_but_rounding() -> None:
    shape = (6, 24, 61, 67)
    found = []
    for threads in (1, 4):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        found += [results(shape, form, torch.float32, native=True) for form in FORMATS]
        torch.set_num_threads(before)
    for one, other in ((0, 2), (1, 3)):
        for first, second in zip(found[one], found[other], strict=True):
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"affine": False}, {"momentum": None}, {"track_running_stats": False}, {"momentum": 0.3, "eps": 0.1}],
)
def test_every_kind_of_batch_norm(options: dict[str, object]) -> None:
    x = features((4, 6, 20, 30))
    norms = [nn.BatchNorm2d(6, **options) for _ in range(2)]  # type: ignore[arg-type]
    for _ in range(2):
        with native_kernels():
            ours = norms[0](x)
        torch.testing.assert_close(ours, norms[1](x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dict(norms[0].state_dict()), dict(norms[1].state_dict()), rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients() -> None:
    x = features((3, 4, 30, 40)).requires_grad_()
    found = []
    for context in (native_kernels(), nullcontext()):
        layers = pair((3, 4, 30, 40), torch.float32)
        with context:
            output = layers(x)
        (gradient,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), (x, *layers.parameters())))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_pytorchs_own_where_kernels_do_not_hold() -> None:
    x = features((4, 6, 20, 30)).requires_grad_()
    norm = nn.BatchNorm2d(6)
    with native_kernels():
        found = {
            "native": norm(x),
            "small": norm(x[:, :, :3, :3]),
            "strided": norm(x[:, :, ::2]),
            "double": nn.BatchNorm2d(6).double()(x.double()),
            "eval": nn.BatchNorm2d(6).eval()(x),
            "none": nn.PReLU(1)(x),
        }
        torch.func.vmap(lambda part: torch.nn.functional.batch_norm(part, None, None, training=True))(x[None].detach())
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            nn.BatchNorm1d(9000)(torch.rand(1, 9000))
    own = "NativeBatchNormBackward object"  # PyTorch's ends in 0
    assert [key for key, output in found.items() if own in str(output.grad_fn)] == ["native"]


@pytest.mark.parametrize("sizes", [(64, 8), (8, 64), (64, 64)])
def test_one_batch_norm_for_features_of_several_sizes(sizes: tuple[int, int]) -> None:
    found = []
    for context in (native_kernels(), nullcontext()):
        norm, inputs = nn.BatchNorm2d(6), [features((4, 6, size, size)).requires_grad_() for size in sizes]
        with context:
            loss = torch.stack([norm(x).pow(3).mean() for x in inputs]).sum()
        loss.backward()
        found.append([*(x.grad for x in inputs), norm.running_mean, norm.running_var])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)


FUSED = "NativeBatchNormBackward"


def test_in_one_only_where_nobody_watches() -> None:
    """What lies between BatchNorm and PReLU is computed where a hook sees it, and counted and trained as ever."""
    shape = (3, 8, 40, 50)
    found = {}
    for kind in ("torch", "fused", "norm", "act", "backward", "scale", "eval", "momentum", "frozen", "double"):
        layers, seen = pair(shape, torch.float32), []
        norm, activation = per_scale(layers)
        x = features(shape).requires_grad_(kind != "frozen")
        watched = {"norm": layers[0], "act": layers[1], "scale": norm}.get(kind)
        if watched is not None:
            watched.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        if kind == "backward":
            layers[1].register_full_backward_hook(lambda *_, seen=seen: seen.append(1))
        layers[0].train(kind != "eval").momentum = None if kind == "momentum" else 0.1
        for parameter in layers[0].parameters():
            parameter.requires_grad_(kind != "frozen")
        if kind == "double":
            layers, x = layers.double(), x.detach().double().requires_grad_()
        with native_kernels() if kind != "torch" else nullcontext():
            output = activated(norm, activation, x)
        output.square().sum().backward()
        assert len(seen) == (kind in {"norm", "act", "backward", "scale"})
        assert (output.grad_fn.name() == FUSED) == (kind in {"fused", "frozen"}), kind
        assert layers[0].num_batches_tracked == (kind != "eval")
        found[kind] = [output.detach(), layers[1].weight.grad]
        if kind != "frozen":
            found[kind] += [x.grad, *(parameter.grad for parameter in layers[0].parameters())]
    for kind, tensors in found.items():
        for ours, theirs in zip(tensors, found["torch"], strict=False):
            close = 1e-4 * float(theirs.abs().max())
            assert kind == "eval" or torch.allclose(ours.float(), theirs, rtol=1e-4, atol=close), kind
    with native_kernels(), torch.no_grad():
        assert torch.equal(activated(*per_scale(pair(shape, torch.float32)), features(shape)), found["fused"][0])


def test_one_pair_for_several_features_and_gradients_of_gradients() -> None:
    found = []
    for context in (native_kernels(), nullcontext()):
        layers, x = pair((3, 4, 30, 40), torch.float32), features((3, 4, 30, 40)).requires_grad_()
        with context:
            outputs = [activated(*per_scale(layers), given) for given in (x, x[:, :, :27, :39].contiguous())]
        loss = torch.stack([output.square().sum() for output in outputs]).sum()
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        again = torch.autograd.grad(gradient.square().sum(), (x, *layers.parameters()))
        found.append([gradient.detach(), *again])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (2, 1, 25, 33)])
@pytest.mark.parametrize("form", FORMATS)
def test_infinite_inputs(place: tuple[int, ...], form: torch.memory_format) -> None:
    norms = [nn.BatchNorm2d(6) for _ in range(2)]
    x = features((4, 6, 30, 40)).to(memory_format=form)
    x[place] = torch.inf
    with native_kernels():
        ours = norms[0](x)
    torch.testing.assert_close(ours, norms[1](x), rtol=1e-4, atol=1e-4, equal_nan=True)
    for key, value in norms[0].state_dict().items():
        torch.testing.assert_close(value, norms[1].state_dict()[key], rtol=1e-5, atol=1e-5, equal_nan=True)
    assert norms[0].running_mean.isinf().sum() == 1


def test_saved_features_that_hooks_lay_otherwise() -> None:
    found = []
    for hooks in (nullcontext(), torch.autograd.graph.saved_tensors_hooks(lambda x: x.contiguous(), lambda x: x)):
        layers = pair((3, 4, 30, 40), torch.float32)
        x = features((3, 4, 30, 40)).to(memory_format=torch.channels_last).requires_grad_()
        with native_kernels(), hooks:
            output = layers(x)
        found.append(torch.autograd.grad(output.square().sum(), (x, *layers.parameters())))
    for hooked, plain in zip(*found, strict=True):
        torch.testing.assert_close(hooked, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def test_a_batch_of_gradients() -> None:
    layers, x = pair((3, 4, 30, 40), torch.float32), features((3, 4, 30, 40)).requires_grad_()
    with native_kernels():
        output = layers(x)
    gradients = torch.randn(2, *output.shape)
    (batched,) = torch.autograd.grad(output, x, gradients, is_grads_batched=True, retain_graph=True)
    singly = torch.stack([torch.autograd.grad(output, x, each, retain_graph=True)[0] for each in gradients])
    torch.testing.assert_close(batched, singly, rtol=1e-3, atol=1e-5 * float(singly.abs().max()))


def test_computed_again_by_checkpoints() -> None:
    found = []
    for is_again in (True, False):
        layers, x = pair((3, 4, 30, 40), torch.float32), features((3, 4, 30, 40)).requires_grad_()
        contexts = {"context_fn": lambda: (native_kernels(), native_kernels())}
        with native_kernels():
            output = checkpoint(layers, x, use_reentrant=False, **contexts) if is_again else layers(x)
        found.append(torch.autograd.grad(output.square().sum(), (x, *layers.parameters())))
    assert all(map(torch.equal, *found))


ONES = torch.ones(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.batch_norm(x, None, None, ONES, ONES, training=True),
        lambda x: F.batch_norm(x, ONES, ONES, training=True),
        lambda x: F.prelu(x, torch.ones(6, device="meta")),
        lambda x: F.prelu(x, torch.ones(5)),
    ],
)
def test_parameters_that_do_not_fit_are_refused(call: Callable[[Tensor], Tensor]) -> None:
    with native_kernels(), pytest.raises(RuntimeError, match=r"should contain 6 elements|expected device|numbers = 5"):
        call(features((4, 6, 20, 30)).requires_grad_())


def test_arguments_by_name_and_of_other_kinds() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation = PReLU(6)

        def forward(self, x: Tensor) -> Tensor:
            return F.prelu(F.batch_norm(self.activation(x), None, None, training=True), self.activation.weight)

    x, layers = features((4, 6, 20, 30)), Functions()
    with native_kernels():
        assert torch.equal(torch.fx.symbolic_trace(layers)(x), layers(x))
        assert F.prelu(input=x, weight=layers.activation.weight).grad_fn.name().startswith("Native")
        one, single = features((20, 1, 20, 30)), torch.tensor(0.5, requires_grad=True)
        F.prelu(one, single).sum().backward()
    torch.testing.assert_close(single.grad, one.clamp(max=0).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_threads_of_a_process_that_was_forked() -> None:
    layout, x = Layout(8, 2**16, 0), torch.ones(2**16, 8)

    def total() -> float:
        layout.run("moments", [x], [torch.zeros(8)], sums := layout.sums(2))
        return float(sums[:, 0].sum())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert total() == x.numel()
        child = os.fork()
        if not child:
            threading.Timer(20, os._exit, (2,)).start()
            os._exit(int(total() != x.numel()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)


def functions_of(output: Tensor) -> set[str]:
    """Return the names of the functions whose gradients an output needs."""
    names, seen, waiting = set(), set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            waiting += [before for before, _ in node.next_functions]
    return names


def test_a_network_and_what_decays_in_it() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(4, 3, 64, 64), torch.rand(4, 1, 64, 64)
    found = []
    for kind in ("native", "torch", "double"):
        torch.manual_seed(1)
        model = goctconv.create_model("csnet_x1_l")
        images, wanted = x, target
        if kind == "double":
            model, images, wanted = model.double(), x.double(), target.double()
        optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), 1e-9), model, weight_decay=3.0)
        with native_kernels() if kind == "native" else nullcontext():
            model(images).mean().backward()  # the first pass finds the activations; hooks read them in the second one
            optimizer.step()
            optimizer.zero_grad()
            logits = model(images)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        assert sum(len(forward_hooks_of(module)) for module in norms) == len(norms)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        functions = functions_of(loss)
        assert ("NativeBatchNormBackward" in functions) == (kind == "native")
        assert "NativePReLUBackward" not in functions
        loss.backward()
        found.append(
            {
                name: parameter.grad.double().clone()
                for name, parameter in model.named_parameters()
                if parameter.grad is not None
            }
        )
        optimizer.step()
        metrics = optimizer.metrics()
        assert len(metrics) == len(norms)
        found[-1] |= {f"M {name}": value.metric.double() for name, value in metrics.items()}
    ours, theirs, truth = found
    assert len(ours) == len(theirs) == len(truth) > 400
    errors = [
        max(float((side[name] - exact).norm() / exact.norm().clamp(min=1e-9)) for name, exact in truth.items())
        for side in (ours, theirs)
    ]
    assert errors[0] <= max(errors[1], 1e-5), errors


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -v")
    assert "no-such-compiler -v failed" in Library().problem
    library.cache_clear()
    with pytest.raises(ArgumentError, match=r"native=True needs a C compiler: .* pip install ziglang$"):
        native_kernels()
    library.cache_clear()


def test_checkpointed_models_recompute_with_the_kernels_of_the_forward_pass() -> None:
    gradients = []
    for is_saving in (False, True):
        torch.manual_seed(3)
        model = goctconv.create_model("test_csnet").train()
        model.set_grad_checkpointing(is_saving)
        with native_kernels():
            loss = model(torch.rand(2, 3, 32, 32)).square().mean()
        loss.backward()
        gradients.append([*(parameter.grad for parameter in model.parameters()), *model.buffers()])
    for expected, actual in zip(*gradients, strict=True):
        assert torch.equal(actual, expected)
