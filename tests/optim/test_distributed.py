"""Data parallelism: two processes train as one does with their halves as micro-batches.

Run as a script, this file is one of the two processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from goctconv import DynamicWeightDecay
from reference.decay import (
    DECAY,
    Batch,
    PlainTraining,
    batches,
    groups,
    loss_of,
    seeded,
    singly,
    tiny_network,
    train,
)
from reference.processes import RANKS, connected, run_ranks
from reference.zoo.tiny import Fork

if TYPE_CHECKING:
    from collections.abc import Callable


def data_of(rank: int, steps: int = 6) -> list[Batch]:
    """The batches of a process: 4 images in one, 3 in the other."""
    return batches(*[4 - rank] * steps, seed=30 + rank)


def shifted(data: list[Batch], rank: int) -> list[Batch]:
    """Images whose mean has a sign that depends on the process."""
    return [(images + (5 if rank else -5), target) for images, target in data]


def wrapped(model: nn.Module, given: nn.Module | None = None, **options: Any) -> DynamicWeightDecay:
    inner = SGD(model.parameters(), lr=0.1, momentum=0.9)
    return DynamicWeightDecay(inner, model if given is None else given, weight_decay=DECAY, **options)


Result = dict[str, Any]


def result(model: nn.Module, optimizer: DynamicWeightDecay) -> Result:
    metrics = {name: (one.metric, one.images) for name, one in optimizer.metrics().items()}
    return {"model": model.state_dict(), "metrics": metrics}


def run_parallel(rank: int, *, give_parallel: bool = True, steps: int = 6, **options: Any) -> Result:
    model = tiny_network()
    parallel = DistributedDataParallel(model)
    optimizer = wrapped(model, parallel if give_parallel else model, **options)
    train(parallel, optimizer, *singly(data_of(rank, steps)))
    return result(model, optimizer)


def run_sharded(rank: int, **options: Any) -> Result:
    """Every process holds and steps the optimizer's state of a share of the parameters."""
    model = tiny_network()
    parallel = DistributedDataParallel(model)
    inner = ZeroRedundancyOptimizer(model.parameters(), SGD, lr=0.1, momentum=0.9, **options)
    optimizer = DynamicWeightDecay(inner, parallel, weight_decay=DECAY)
    train(parallel, optimizer, *singly(data_of(rank)))
    return result(model, optimizer)


def run_wrapped_first(rank: int) -> Result:
    model = tiny_network()
    optimizer = wrapped(model)
    train(DistributedDataParallel(model), optimizer, *singly(data_of(rank)))
    return result(model, optimizer)


def run_accumulated(rank: int) -> Result:
    model = tiny_network()
    parallel = DistributedDataParallel(model)
    optimizer = wrapped(model, parallel)
    data = data_of(rank)
    for first, second in zip(data[::2], data[1::2], strict=True):
        optimizer.zero_grad()
        with parallel.no_sync():
            loss_of(parallel(first[0]), first[1]).backward()
        loss_of(parallel(second[0]), second[1]).backward()
        optimizer.step()
    return result(model, optimizer)


def run_closure(rank: int) -> Result:
    model = tiny_network()
    parallel = DistributedDataParallel(model)
    optimizer = wrapped(model, parallel)
    for images, target in data_of(rank):

        def closure(images: Tensor = images, target: Tensor = target) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(parallel(images), target)
            loss.backward()
            return loss

        optimizer.step(closure)
    return result(model, optimizer)


def run_compiled(rank: int) -> Result:
    model = tiny_network(torch.relu)
    parallel = DistributedDataParallel(model)
    fast = torch.compile(parallel, backend="aot_eager")
    optimizer = wrapped(model, fast)  # type: ignore[arg-type]  # torch types it as a function
    train(fast, optimizer, *singly(data_of(rank)))  # type: ignore[arg-type]
    return result(model, optimizer)


def run_forked(rank: int, cost: str | None = None) -> Result:
    """One process has images for one layer, the other one for another."""
    model = seeded(Fork)
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = wrapped(model, parallel, cost=cost)
    train(parallel, optimizer, *singly(shifted(data_of(rank), rank)))
    return result(model, optimizer)


def run_apart(rank: int) -> Result:
    """No data parallelism at all: every process trains a network of its own."""
    model = tiny_network()
    optimizer = wrapped(model, process_group=None)
    train(model, optimizer, *singly(data_of(rank)))
    return result(model, optimizer)


def run_in_group(rank: int) -> Result:
    """A group of one process is given, so that M is not shared, though DistributedDataParallel is."""
    own = [dist.new_group([index]) for index in range(RANKS)][rank]
    model = tiny_network()
    optimizer = wrapped(model, DistributedDataParallel(model, process_group=own))
    train(model, optimizer, *singly(data_of(rank)))
    return result(model, optimizer)


def run_all_by_default(rank: int) -> Result:
    """Without DistributedDataParallel, gradients averaged by hand: all processes share M."""
    model = tiny_network()
    optimizer = wrapped(model)
    for images, target in data_of(rank):
        optimizer.zero_grad()
        loss_of(model(images), target).backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= RANKS
        optimizer.step()
    return result(model, optimizer)


CASES: dict[str, Callable[[int], Result]] = {
    "parallel": run_parallel,
    "model inside": lambda rank: run_parallel(rank, give_parallel=False),
    "wrapped first": run_wrapped_first,
    "sharded": run_sharded,
    "sharded in buckets": lambda rank: run_sharded(rank, parameters_as_bucket_view=True),
    "20 steps": lambda rank: run_parallel(rank, steps=20),
    "decoupled": lambda rank: run_parallel(rank, decoupled=True),
    "closure": run_closure,
    "accumulated": run_accumulated,
    "compiled": run_compiled,
    "forked": run_forked,
    "forked, resolution": lambda rank: run_forked(rank, "resolution"),
    "forked, macs": lambda rank: run_forked(rank, "macs"),
    "apart": run_apart,
    "group": run_in_group,
    "by hand": run_all_by_default,
}


def attempt(case: Callable[[int], Result], rank: int) -> Result:
    try:
        return case(rank)
    except Exception as error:  # noqa: BLE001  # told to the test, which fails with it
        return {"error": f"{type(error).__name__}: {error}"}


def main(rank: int, folder: Path, names: list[str]) -> None:
    with connected(rank, folder):
        torch.save({name: attempt(CASES[name], rank) for name in names}, folder / f"{rank}.pt")


def run(folder: Path, names: list[str]) -> dict[str, list[Result]]:
    """Return what both processes found, by case."""
    run_ranks(__file__, folder, *names)
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    return {name: [one[name] for one in found] for name in names}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Result]]:
    """What both processes found, by case, but for what is slow."""
    return run(tmp_path_factory.mktemp("processes"), [name for name in CASES if name != "compiled"])


def plainly(
    make: Callable[[], Any],
    steps: list[list[Batch]],
    *,
    accumulated: int = 1,
    decoupled: bool = False,
    costs: dict[str, float] | None = None,
) -> PlainTraining:
    """One process, in which the batches of the others are micro-batches; gradients are the mean over processes."""
    model = make()
    training = PlainTraining(model, SGD(groups(model), lr=0.1, momentum=0.9))
    for step in steps:
        for batch in step:
            (training.loss(batch) * (accumulated / len(step))).backward()
        if decoupled:
            training.optimizer.step()
            training.optimizer.zero_grad()
            training.measure()
            with torch.no_grad():
                for name, metric in training.metrics.items():
                    model.get_submodule(name).weight.mul_(1 - 0.1 * DECAY * metric)
        else:
            training.measure()
            training.penalty(costs).backward()
            training.optimizer.step()
            training.optimizer.zero_grad()
    return training


def check(found: list[Result], expected: PlainTraining, images: dict[str, int]) -> None:
    """Both processes hold the expected parameters and M, and the same bits."""
    assert [one.get("error") for one in found] == [None] * RANKS
    first, second = found
    for name, parameter in expected.model.named_parameters():
        assert torch.equal(first["model"][name], second["model"][name]), name
        torch.testing.assert_close(first["model"][name], parameter.detach(), rtol=1e-12, atol=1e-12)
    for one in found:
        assert {name: count for name, (_, count) in one["metrics"].items()} == images
        for name, (metric, _) in one["metrics"].items():
            torch.testing.assert_close(metric, expected.metrics[name], rtol=1e-12, atol=1e-12)
            assert torch.equal(metric, first["metrics"][name][0])


def both(steps: int = 6) -> list[list[Batch]]:
    return [list(step) for step in zip(data_of(0, steps), data_of(1, steps), strict=True)]


SEVEN = {"bn1": 7, "bn2": 7}


@pytest.mark.parametrize(
    "case", ["parallel", "model inside", "wrapped first", "closure", "by hand", "sharded", "sharded in buckets"]
)
def test_two_processes_equal_one(results: dict[str, list[Result]], case: str) -> None:
    check(results[case], plainly(tiny_network, both()), SEVEN)


def test_replicas_stay_equal_for_twenty_steps(results: dict[str, list[Result]]) -> None:
    check(results["20 steps"], plainly(tiny_network, both(20)), SEVEN)


def test_decoupled(results: dict[str, list[Result]]) -> None:
    check(results["decoupled"], plainly(tiny_network, both(), decoupled=True), SEVEN)


def test_accumulation(results: dict[str, list[Result]]) -> None:
    pairs = both()
    steps = [[*first, *second] for first, second in zip(pairs[::2], pairs[1::2], strict=True)]
    check(results["accumulated"], plainly(tiny_network, steps, accumulated=2), {"bn1": 14, "bn2": 14})


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    check(run(tmp_path, ["compiled"])["compiled"], plainly(tiny_network, both()), SEVEN)


FORKED_COSTS = {
    "forked": None,
    "forked, resolution": {"bn1": (56 / 30) ** 0.5, "bn2": 1.0, "bn3": 1.0},  # maps of 8 x 7 and of 6 x 5 pixels
    "forked, macs": {"bn1": 3402 / 2034, "bn2": 1350 / 2034, "bn3": 1350 / 2034},
}


@pytest.mark.parametrize("case", FORKED_COSTS)
def test_process_without_images_for_a_layer(results: dict[str, list[Result]], case: str) -> None:
    """It weighs the layer as the others do, or the replicas would drift apart."""
    steps = [[shifted([batch], rank)[0] for rank, batch in enumerate(step)] for step in both()]
    plain = plainly(lambda: seeded(Fork), steps, costs=FORKED_COSTS[case])
    check(results[case], plain, {"bn1": 7, "bn2": 4, "bn3": 3})


@pytest.mark.parametrize("case", ["apart", "group"])
def test_processes_that_do_not_share(results: dict[str, list[Result]], case: str) -> None:
    for rank, found in enumerate(results[case]):
        assert "error" not in found
        plain = plainly(tiny_network, singly(data_of(rank)))
        for name, parameter in plain.model.named_parameters():
            torch.testing.assert_close(found["model"][name], parameter.detach(), rtol=1e-12, atol=1e-12)
        assert {name: count for name, (_, count) in found["metrics"].items()} == {"bn1": 4 - rank, "bn2": 4 - rank}


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
