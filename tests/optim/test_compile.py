"""torch.compile: the same training as eager, in one graph, without recompilation."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import Tensor, nn

from goctconv import DynamicWeightDecay
from goctconv.optim import StatisticsError
from reference.decay import (
    DECAY,
    PlainTraining,
    assert_metrics,
    assert_same,
    batches,
    seeded,
    singly,
    tiny_network,
    train,
)
from reference.zoo.chains import two_norms
from reference.zoo.tiny import Halves, TinyNetwork
from reference.zoo.wiring import Remembering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = batches(4, 4, 4, 4, 4, 4)
ACTIVATIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "module": nn.ReLU,
    "in-place module": lambda: nn.ReLU(inplace=True),
    "function": lambda: F.relu,
    "in-place function": lambda: torch.relu_,
    "PReLU": lambda: nn.PReLU(5),
    "swish by hand": lambda: lambda x: x * torch.sigmoid(x),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget compiled code; one that must be made anew during a test is an error."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch.compiler.reset()


def compiled(model: nn.Module, backend: str = "aot_eager") -> Any:
    return torch.compile(model, fullgraph=True, backend=backend)


def wrapped(model: nn.Module, given: nn.Module | None = None, **options: Any) -> DynamicWeightDecay:
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return DynamicWeightDecay(inner, model if given is None else given, weight_decay=DECAY, **options)


def plainly(network: nn.Module, data: list[Any] = DATA) -> PlainTraining:
    plain = PlainTraining(network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9))
    for batch in data:
        plain.step(batch)
    return plain


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_wrapped_before_compilation(activation: str) -> None:
    model = tiny_network(ACTIVATIONS[activation]())
    optimizer = wrapped(model)
    train(compiled(model), optimizer, *singly(DATA))
    plain = plainly(tiny_network(ACTIVATIONS[activation]()))
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 4, tolerance=1e-10)


def test_compiled_model_is_wrapped() -> None:
    model = tiny_network(torch.relu)
    fast = compiled(model)
    optimizer = wrapped(model, fast)
    assert optimizer.model is model
    train(fast, optimizer, *singly(DATA))
    plain = plainly(tiny_network())
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 4, tolerance=1e-10)  # the names are those of the model inside


def test_compiled_in_place() -> None:
    model = tiny_network(torch.relu)
    optimizer = wrapped(model)
    model.compile(fullgraph=True, backend="aot_eager")
    train(model, optimizer, *singly(DATA))
    plain = plainly(tiny_network())
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 4, tolerance=1e-10)


@pytest.mark.parametrize("activation", ["module", "function"])
def test_compiled_after_an_eager_step(activation: str) -> None:
    model = tiny_network(ACTIVATIONS[activation]())
    optimizer = wrapped(model)
    train(model, optimizer, *singly(DATA[:2]))
    fast = compiled(model)
    train(fast, optimizer, *singly(DATA[2:5]))
    train(model, optimizer, *singly(DATA[5:]))  # and eagerly again
    assert_same(model, plainly(tiny_network()).model, tolerance=1e-10)


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.7"), reason="PyTorch 2.6 compiles the hooks of such a part one by one"
)
def test_only_a_part_is_compiled() -> None:
    model = seeded(Halves)
    optimizer = wrapped(model)
    model.body.compile(fullgraph=True, backend="aot_eager")
    train(model, optimizer, *singly(DATA))
    plain = plainly(seeded(Halves))
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 4, tolerance=1e-10)


def test_no_recompilation_in_thirty_steps() -> None:
    model = tiny_network(torch.relu)
    optimizer = wrapped(model)
    fast = compiled(model)
    torch._dynamo.utils.counters.clear()
    train(fast, optimizer, *singly(DATA * 5))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert torch._dynamo.utils.counters["graph_break"] == {}
    assert_same(model, plainly(tiny_network(), DATA * 5).model, tolerance=1e-9)


def test_accumulation_and_evaluation() -> None:
    """Micro-batches of a compiled model are summed; what it does in eval mode does not count."""
    model, plain = tiny_network(torch.relu), PlainTraining(tiny_network())
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    fast = compiled(model)
    with torch._dynamo.config.patch(error_on_recompile=False):  # eval mode is another graph
        for step in (DATA[:2], DATA[2:4], DATA[4:]):
            with torch.no_grad():
                fast.eval()(batches(4, seed=1)[0][0])
            fast.train()
            train(fast, optimizer, step)
            plain.step(*step)
            assert_metrics(optimizer, plain.metrics, 8, tolerance=1e-10)
    assert_same(model, plain.model, tolerance=1e-10)


@pytest.mark.parametrize("batch", [3, 5])
def test_batches_of_another_size(batch: int) -> None:
    """The last batch of an epoch is smaller: one more graph, of any size, counts the right number of images."""
    data = [*DATA[:2], *batches(batch, 7, seed=4)]
    model = tiny_network(torch.relu)
    optimizer = wrapped(model)
    with torch._dynamo.config.patch(error_on_recompile=False):
        train(compiled(model), optimizer, *singly(data))
    plain = plainly(tiny_network(), data)
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 7, tolerance=1e-10)


@pytest.mark.parametrize("options", [{"decoupled": True}, {"metric": "rms"}, {"cost": "macs"}], ids=str)
def test_options(options: dict[str, Any]) -> None:
    model, eager = tiny_network(F.silu), tiny_network(F.silu)
    optimizer, plain = wrapped(model, **options), wrapped(eager, **options)
    train(compiled(model), optimizer, *singly(DATA))
    train(eager, plain, *singly(DATA))
    assert_same(model, eager, tolerance=1e-10)
    assert {name: one.cost for name, one in optimizer.metrics().items()} == pytest.approx(
        {name: one.cost for name, one in plain.metrics().items()}, rel=1e-12
    )


def test_tracing_changes_nothing() -> None:
    """Random numbers (dropout's among them) and running statistics are those of a run without decay."""

    class Dropped(TinyNetwork):
        def forward(self, images: Tensor) -> Tensor:
            return self.head(
                F.dropout(self.bn2(self.conv2(self.activation(self.bn1(self.conv1(images))))).mean((2, 3)))
            )

    states = []
    for decays in (True, False):
        model = seeded(lambda: Dropped(torch.relu))
        inner: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer = DynamicWeightDecay(inner, model, weight_decay=0.0) if decays else inner
        torch.compiler.reset()
        torch.manual_seed(3)
        train(compiled(model), optimizer, *singly(DATA[:3]))
        states.append((model.state_dict(), torch.get_rng_state()))
    (ours, random), (theirs, expected) = states
    assert torch.equal(random, expected)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-12, msg=name)
    assert theirs["bn1.num_batches_tracked"] == 3


def test_compiled_and_run_before_it_was_wrapped() -> None:
    model = tiny_network(torch.relu)
    fast = compiled(model)
    fast(DATA[0][0]).sum().backward()
    optimizer = wrapped(model, fast)
    with torch._dynamo.config.patch(error_on_recompile=False):
        fast(DATA[0][0]).sum().backward()
        with pytest.raises(StatisticsError, match=r"compiled again.*torch\.compiler\.reset\(\)"):
            optimizer.step()
        torch.compiler.reset()
        model.load_state_dict(tiny_network().state_dict())
        train(fast, optimizer, *singly(DATA))
    assert_same(model, plainly(tiny_network()).model, tolerance=1e-10)


def test_hooks_are_gone_after_removal() -> None:
    model = tiny_network(torch.relu)
    optimizer = wrapped(model)
    fast = compiled(model)
    train(fast, optimizer, *singly(DATA[:2]))
    optimizer.remove()
    before = model.bn1.weight.detach().clone()
    model.zero_grad()
    with torch._dynamo.config.patch(error_on_recompile=False):
        output = fast(DATA[2][0])
    expected = tiny_network()
    expected.load_state_dict(model.state_dict())
    torch.testing.assert_close(output, expected(DATA[2][0]), rtol=1e-10, atol=1e-10)
    optimizer.step()  # no gradients: nothing moves, and nothing asks for activations
    assert torch.equal(model.bn1.weight, before)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_inductor(activation: str) -> None:
    model = tiny_network(ACTIVATIONS[activation]())
    optimizer = wrapped(model)
    train(compiled(model, "inductor"), optimizer, *singly(DATA))
    plain = plainly(tiny_network(ACTIVATIONS[activation]()))
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 4, tolerance=1e-10)


@pytest.mark.parametrize("make", [two_norms, Remembering], ids=["Sequential", "with a memory"])
@pytest.mark.parametrize("kind", ["module", "in place", "function", "dynamic", "sizes that change"])
def test_other_ways_to_compile(make: Any, kind: str) -> None:
    torch.manual_seed(3)
    eager = make()
    model = copy.deepcopy(eager)
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model)
    expected = DynamicWeightDecay(torch.optim.SGD(eager.parameters(), lr=0.1), eager)
    options: Any = {"fullgraph": True, "backend": "aot_eager", "dynamic": True if kind == "dynamic" else None}
    if kind == "in place":
        model.compile(**options)

    def function(images: Tensor) -> Tensor:
        return model(images)

    fast = model if kind == "in place" else torch.compile(function if kind == "function" else model, **options)
    with torch._dynamo.config.patch(error_on_recompile=False):
        for step in range(4):
            images = torch.rand(4 + step * (kind in {"dynamic", "sizes that change"}), 3, 11, 11)
            for network, its in ((fast, optimizer), (eager, expected)):
                its.zero_grad()
                network(images).square().mean().backward()
                its.step()
            assert optimizer.metrics().keys() == expected.metrics().keys()
            for name, found in optimizer.metrics().items():
                assert found.activation == expected.metrics()[name].activation
                assert found.images == len(images)
                torch.testing.assert_close(found.metric, expected.metrics()[name].metric, rtol=1e-4, atol=1e-6)
    for parameter, other in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-4, atol=1e-5)
    if isinstance(model, Remembering):
        assert type(model.grid) is Tensor
