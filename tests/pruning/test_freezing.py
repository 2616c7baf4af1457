"""What cannot be cut keeps its own channels, and the rest of the network is pruned."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # the usual name
import torchvision
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.nn.utils import parametrizations, parametrize, prune

from goctconv.pruning import prune_channels
from reference.random_networks import difference, randomize
from reference.zoo.chains import dense

EXAMPLE = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network() -> nn.Sequential:
    return randomize(dense(), share=0.5, seed=1).eval()


def trained(model: nn.Module) -> None:
    """Run a model so that a computed weight belongs to a graph."""
    model(EXAMPLE).sum().backward()


COMPUTED: dict[str, Callable[[nn.Sequential], object]] = {
    "weight_norm": lambda model: parametrizations.weight_norm(model[2].conv),
    "spectral_norm": lambda model: parametrizations.spectral_norm(model[2].conv),
    "orthogonal": lambda model: parametrizations.orthogonal(model[2].conv),
    "old weight_norm": lambda model: (nn.utils.weight_norm(model[2].conv), trained(model)),
    "old spectral_norm": lambda model: nn.utils.spectral_norm(model[2].conv),
    "masked": lambda model: prune.random_unstructured(model[2].conv, "weight", amount=0.5),
    "masked norm": lambda model: prune.random_unstructured(model[2].norm, "weight", amount=0.5),
    "parametrized norm": lambda model: parametrize.register_parametrization(model[2].norm, "weight", nn.Identity()),
}


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.spectral_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_weights_that_are_computed(kind: str) -> None:
    model = network()
    COMPUTED[kind](model)
    model.eval()
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert "0.norm" in result.plan.removed
    assert "2.norm" not in result.plan.removed
    for _, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and "weight" in dict(norm.named_parameters()):
            norm.weight.data[norm.weight.abs() < 1e-20] = 0
    with torch.no_grad():
        assert difference(model(EXAMPLE), result.model(EXAMPLE)) <= 1e-12


class Summed(nn.Module):
    """A sum by the module that quantization replaces."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.sum = body, FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        return self.sum.add_relu(self.body(x), x)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
def test_networks_yet_to_be_quantized() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), Summed(nn.Conv2d(8, 8, 1)), nn.Conv2d(8, 2, 1))
    model.append(nn.BatchNorm2d(2)).append(nn.Conv2d(2, 2, 1))
    randomize(model.double(), share=0.7, seed=2).eval()
    model[1].bias.data[:] = 0
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert result.report.removed > 0
    assert max(result.report.difference.values()) <= 1e-12


class Cast(nn.Module):
    """A network that casts inside its forward pass."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.body, self.dtype = network().float(), dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", self.dtype):
            return self.body(x).float()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_inside_forward(dtype: torch.dtype) -> None:
    model = Cast(dtype).eval()
    result = prune_channels(model, EXAMPLE.float(), threshold=1e-20)
    plain = prune_channels(model.body, EXAMPLE.float(), threshold=1e-20)
    assert result.report.removed == plain.report.removed > 0
    assert any("compared in float64" in note for note in result.report.notes)
    assert {parameter.dtype for parameter in result.model.parameters()} == {torch.float32}
    masked = result.plan.mask(copy.deepcopy(model))
    assert difference(masked(EXAMPLE.float()), result.model(EXAMPLE.float())) <= 0.03
    assert difference(masked.body(EXAMPLE.float()), result.model.body(EXAMPLE.float())) <= 1e-5
    inplace = prune_channels(model, EXAMPLE.float(), threshold=1e-20, inplace=True).model
    assert torch.equal(inplace(EXAMPLE.float()), result.model(EXAMPLE.float()))


class Chosen(nn.Module):
    """Values of the highest scores, in their order; nothing if no score is above a bound."""

    def __init__(self, bound: float = -1.0, factor: float = 1e5) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = network()
        self.body[-1] = nn.Conv2d(self.body[-1].in_channels, 6, 1)
        self.values, self.scores = nn.Conv2d(6, 1, 1), nn.Conv2d(6, 1, 1)
        self.bound, self.factor = bound, factor

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        scores = (self.factor * self.scores(y)).sin().flatten()  # which turns the last bits of float32 into others
        order = scores.argsort(descending=True)
        return self.values(y).flatten()[order][scores[order] > self.bound]


@torch.no_grad()
@pytest.mark.parametrize("bound", [-1.0, 0.0])  # all are sorted, or another number of them is chosen
def test_near_equal_scores_are_sorted_alike_in_float64(bound: float) -> None:
    model = Chosen(bound).float().eval()
    result = prune_channels(model, EXAMPLE.float(), threshold=1e-20)
    assert result.report.removed > 0
    assert max(result.report.difference.values()) <= 1e-10
    masked = result.plan.mask(copy.deepcopy(model))
    bodies = [network.body(EXAMPLE.float()) for network in (masked, result.model)]
    assert difference(*bodies) <= 1e-5


def test_scores_that_rounding_reorders_in_float64_are_told_of() -> None:
    model = Chosen(0.0, factor=1e15).double().eval()
    report = prune_channels(model, EXAMPLE, threshold=1e-20).report
    assert any("near-equal scores are sorted or thresholded" in note for note in report.notes)
    result = prune_channels(model, EXAMPLE, threshold=1e-20, compare=lambda *_: True)
    assert result.report.removed > report.removed == 0
    masked = result.plan.mask(copy.deepcopy(model))
    assert difference(masked.body(EXAMPLE), result.model.body(EXAMPLE)) <= 1e-12


def test_outputs_without_elements() -> None:
    model = Chosen(bound=2.0).double().eval()
    assert model(EXAMPLE).shape == (0,)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert result.report.removed > 0
    assert any("puts out no numbers on the example" in note for note in result.report.notes)
    result.model.bound = -1.0
    masked = result.plan.mask(copy.deepcopy(model))
    masked.bound = -1.0
    with torch.no_grad():
        assert difference(masked(EXAMPLE), result.model(EXAMPLE)) <= 1e-12


class Branching(nn.Module):
    """A network that takes another way for large images."""

    def __init__(self, branch: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.branch = network(), branch
        self.other = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.body):
            x = self.branch(self, layer(x)) if index == 1 and x.shape[-1] != 11 else layer(x)
        return x


BRANCHES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "another layer": lambda self, x: self.other(x),
    "padded": lambda _, x: F.pad(x, (1, 1, 1, 1)),
    "shifted": lambda _, x: x + 1,
    "literal": lambda _, x: x[:, torch.arange(8)],
}


@torch.no_grad()
@pytest.mark.parametrize("kind", BRANCHES)
def test_branches_that_depend_on_the_size(kind: str) -> None:
    torch.manual_seed(2)
    model = Branching(BRANCHES[kind]).double().eval()
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    masked = result.plan.mask(copy.deepcopy(model))
    assert result.report.removed > 0
    for size in ((9, 11), (13, 20), (41, 75)):
        x = torch.randn(1, 3, *size, dtype=torch.float64)
        assert difference(masked(x), result.model(x)) <= 1e-12


@pytest.mark.slow
@torch.no_grad()
def test_detectors() -> None:
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    randomize(model, share=0.3, seed=1)
    image = torch.rand(3, 120, 100)
    model.train()
    model.backbone(image[None].repeat(2, 1, 3, 3))
    result = prune_channels(model.eval(), ([image],), threshold=1e-20)
    assert result.report.removed > 100


class PixelHead(nn.Module):
    """A head that reads the pixels that another one chooses: none, if its threshold is high."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.body, self.threshold = network()[:3], threshold
        width = self.body[2].norm.num_features
        self.score, self.head = nn.Conv2d(width, 1, 1).double(), nn.Linear(width, 3).double()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        scores = self.score(y)
        return scores, self.head(y.permute(0, 2, 3, 1)[scores[:, 0] > self.threshold])


def test_what_is_read_of_nothing_keeps_its_channels() -> None:
    model = PixelHead(1e9).eval()
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert "body.0.norm" in result.plan.removed
    assert "body.2.norm" not in result.plan.removed
    assert {reason.kind for reason in result.report.layers["body.2.norm"].held.values()} == {"empty"}
    assert not any("can be cut" in note for note in result.report.notes)
    masked = result.plan.mask(copy.deepcopy(model))
    for model in (masked, result.model):
        model.threshold = -1e9  # all of them
    with torch.no_grad():
        for expected, actual in zip(masked(EXAMPLE), result.model(EXAMPLE), strict=True):
            assert difference(expected, actual) <= 1e-12
