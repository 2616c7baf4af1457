"""Operators that channels are followed through: the pruned network equals the masked one, and channels go."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # the usual name
import torchvision
from torch import Tensor, nn

from goctconv.pruning import PruningResult, prune_channels
from goctconv.pruning.propagate import operators
from reference.coverage import coverage, freezing
from reference.random_networks import difference, randomize
from reference.zoo.detector import Detector

WIDTH, MASKED = 14, 5
LENGTH, OTHER = 17, 22


class Layer(nn.Module):
    """A convolution with BatchNorm and ReLU, a function of the network and what they give, and a last layer."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], last: nn.Module, dimensions: int) -> None:
        super().__init__()
        conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[dimensions - 1]
        self.function = function
        self.first, self.norm, self.last = conv(3, WIDTH, 1), norm(WIDTH), last
        self.scalars = nn.Parameter(torch.rand(4))
        self.matrix = nn.Parameter(torch.randn(6, WIDTH))
        self.register_buffer("order", torch.randperm(WIDTH))
        self.register_buffer("chosen", torch.arange(WIDTH) % 3 > 0)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.gru = nn.GRU(WIDTH, WIDTH // 2, 2, bidirectional=True, batch_first=True)
        self.rnn = nn.RNN(WIDTH, WIDTH, bias=False)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.cell = nn.LSTMCell(WIDTH, WIDTH)
        self.instance = (nn.InstanceNorm1d, nn.InstanceNorm2d)[dimensions - 1](WIDTH, affine=True)
        self.plain_instance = (nn.InstanceNorm1d, nn.InstanceNorm2d)[dimensions - 1](WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, self.norm(self.first(x)).relu()))


@torch.no_grad()
def pruned(
    function: Callable[[Any, Tensor], Tensor],
    *,
    positive: bool = False,
    dimensions: int = 1,
    width: int = WIDTH,
    last: Callable[[], nn.Module] | None = None,
) -> PruningResult:
    """Prune, and compare at a second size; constants are positive, or 0 behind ReLU."""
    torch.manual_seed(3)
    made = last() if last is not None else (nn.Conv1d, nn.Conv2d)[dimensions - 1](width, 4, 1)
    model = Layer(function, made, dimensions).double().eval()
    model.norm.weight.uniform_(0.5, 1)
    model.norm.weight[torch.randperm(WIDTH)[:MASKED]] = 0
    model.norm.bias.uniform_(0.1, 1)
    if not positive:
        model.norm.bias.neg_()
    example = torch.randn(2, 3, LENGTH, *[12][: dimensions - 1], dtype=torch.float64)
    result = prune_channels(model, example, threshold=1e-20)
    oracle = result.plan.mask(copy.deepcopy(model))
    other = torch.randn(3, 3, OTHER, *[15][: dimensions - 1], dtype=torch.float64)
    for x in (example, other):
        assert difference(oracle(x), result.model(x)) <= 1e-12
    return result


def overwritten(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


def overwritten_of_sizes(x: Tensor) -> Tensor:
    y = torch.zeros(x.shape, dtype=x.dtype)
    y[..., ::2] = x[..., ::2]
    return y


def blanked(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, [0, 2]] = 0
    return y


def thresholded(x: Tensor) -> Tensor:
    y = x.clone()
    y[y < 0.3] = 0
    return y


def raised(x: Tensor) -> Tensor:
    y = x.clone()
    y[y < 0.3] = 0.1
    return y


def shuffled(x: Tensor, *sizes: int) -> Tensor:
    return x.view(len(x), *sizes, x.shape[2]).transpose(1, 2).reshape(x.shape)


def attended(x: Tensor, attention: Callable[[Tensor], Tensor]) -> Tensor:
    return attention(x.transpose(1, 2)).transpose(1, 2)


def nearest(x: Tensor) -> Tensor:
    """Features of the nearest points, as in point clouds."""
    places = (-torch.cdist(x.transpose(1, 2), x.transpose(1, 2))).topk(3, 2)[1]
    points = x.transpose(1, 2).reshape(-1, x.shape[1])
    places = places + torch.arange(x.shape[0]).view(-1, 1, 1) * x.shape[2]
    return points[places.reshape(-1)].view(*places.shape, -1).amax(2).transpose(1, 2)


OF_ANY_CONSTANT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "max over time": lambda _, x: x.max(2)[0][:, :, None],
    "min over time": lambda _, x: torch.min(x, dim=2, keepdim=True)[0],
    "max of two": lambda _, x: torch.max(x, 0.7 * x),
    "min of two": lambda _, x: torch.min(x, x * x),
    "aminmax": lambda _, x: x - torch.aminmax(x, dim=2, keepdim=True)[0],
    "median": lambda _, x: x - x.median(2, keepdim=True)[0],
    "standard deviation": lambda _, x: x + x.std(2, keepdim=True),
    "sorted": lambda _, x: x.sort(2)[0],
    "largest": lambda _, x: x.topk(3, 2)[0],
    "gathered": lambda _, x: x.gather(2, x.argsort(2)),
    "positions in time": lambda _, x: x[:, :, [3, 1, 2]],
    "mask in time": lambda _, x: x[:, :, torch.arange(x.shape[2]) > 3],
    "index_select": lambda _, x: x.index_select(2, torch.arange(5)),
    "buffer of positions": lambda self, x: x[:, self.order],
    "buffer of positions, index_select": lambda self, x: x.index_select(1, self.order),
    "reversed": lambda _, x: x.flip(1),
    "ones like": lambda _, x: x + torch.ones_like(x),
    "zeros of sizes": lambda _, x: torch.max(x, torch.zeros(x.shape, dtype=x.dtype)),
    "new zeros": lambda _, x: x - x.new_full((x.shape[0], x.shape[1], 1), 2.0),
    "gated": lambda _, x: F.glu(torch.cat([x, -x], 1), 1),
    "where both": lambda _, x: torch.where(x > 0.3, x, x + 1),
    "a scalar of a parameter": lambda self, x: x * self.scalars[0],
    "means of parameters": lambda self, x: x * self.matrix.mean() + self.scalars.sum(),
    "a softmax of a parameter": lambda self, x: x * torch.softmax(self.scalars, 0)[1],
    "a piece of nothing": lambda _, x: torch.cat([x[:, :0], x.narrow(1, 0, 0), x], 1),
    "nothing beside": lambda _, x: torch.cat([x, x.new_empty(len(x), 0, x.shape[2])], 1) + x.new_empty(0, 14).sum(),
    "overwritten by a mask": lambda _, x: raised(x),
    "instance norm": lambda self, x: self.instance(x),
    "instance norm without weights": lambda self, x: self.plain_instance(x),
    "lstm": lambda self, x: self.lstm(x.transpose(1, 2))[0].transpose(1, 2),
    "gru": lambda self, x: self.gru(x.transpose(1, 2))[0].transpose(1, 2),
    "lstm cell": lambda self, x: self.cell(x[:, :, 0])[0][:, :, None],
}
OF_ZEROS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "cumsum": lambda _, x: x.cumsum(2),
    "normalize": lambda _, x: F.normalize(x, dim=1),
    "norm": lambda _, x: x / x.norm(p=1, dim=1, keepdim=True).clamp(1e-3),
    "cosine": lambda _, x: x * F.cosine_similarity(x, 2 * x, 1)[:, None],
    "sum over channels": lambda _, x: x * x.sum(1, keepdim=True),
    "mean over channels": lambda _, x: x * x.mean(1, keepdim=True),
    "einsum with a mean": lambda _, x: torch.einsum("bct,bt->bct", x, x.mean(1)),
    "einsum with dots": lambda _, x: torch.einsum("...t,bst->bst", x.sum(1), x),
    "einsum with a parameter": lambda self, x: torch.cat([torch.einsum("bct,oc->bot", x, self.matrix)] * 3, 1)[:, :14],
    "bmm": lambda _, x: torch.bmm(torch.softmax(torch.bmm(x.mT, x), -1), x.mT).mT,
    "baddbmm": lambda _, x: torch.baddbmm(x, x, torch.bmm(x.mT, x)),
    "where": lambda _, x: torch.where(x > 0.3, x, 0.0),
    "masked_fill": lambda _, x: x.masked_fill(x > 0.3, 0),
    "overwritten": lambda _, x: overwritten(x),
    "overwritten, of sizes": lambda _, x: overwritten_of_sizes(x),
    "blanked": lambda _, x: blanked(x),
    "thresholded": lambda _, x: thresholded(x),
    "scattered": lambda _, x: torch.zeros_like(x).scatter_add(2, torch.zeros_like(x, dtype=torch.long), x),
    "index_add": lambda _, x: torch.zeros_like(x).index_add(2, torch.arange(x.shape[2]), x),
    "Fourier transform": lambda _, x: torch.fft.irfft(torch.fft.rfft(x, dim=2), n=x.shape[2], dim=2),
    "nearest points": lambda _, x: nearest(x),
}


@pytest.mark.parametrize("name", OF_ANY_CONSTANT)
def test_all_constants_go(name: str) -> None:
    assert pruned(OF_ANY_CONSTANT[name], positive=True).report.removed == MASKED


@pytest.mark.parametrize("name", OF_ZEROS)
def test_zeros_go(name: str) -> None:
    assert pruned(OF_ZEROS[name]).report.removed == MASKED


@pytest.mark.parametrize("name", OF_ZEROS)
def test_what_lets_zeros_go_is_exact_for_other_constants(name: str) -> None:
    pruned(OF_ZEROS[name], positive=True)


def test_a_recurrent_layer_without_bias_keeps_one_constant() -> None:
    result = pruned(lambda self, x: self.rnn(x.permute(2, 0, 1))[0].permute(1, 2, 0), positive=True)
    assert result.report.removed == MASKED - 1
    assert result.model.rnn.input_size == WIDTH - MASKED + 1


def test_a_mask_of_channels_in_a_buffer() -> None:
    width = int((torch.arange(WIDTH) % 3 > 0).sum())
    assert pruned(lambda self, x: x[:, self.chosen], positive=True, width=width).report.removed == MASKED


def unpooled(x: Tensor) -> Tensor:
    values, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(values, places, 2, output_size=x.shape[-2:])


def turned(x: Tensor, mode: str) -> Tensor:
    angle = torch.tensor([[0.9, 0.2, 0.1], [-0.2, 0.9, 0.0]], dtype=x.dtype).expand(len(x), 2, 3)
    grid = F.affine_grid(angle, [len(x), 1, *x.shape[-2:]], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False, padding_mode=mode)


MAPS: dict[str, tuple[Callable[[Any, Tensor], Tensor], bool, int]] = {
    "unpooled": (lambda _, x: unpooled(x), False, MASKED),
    "grid with zeros": (lambda _, x: turned(x, "zeros"), True, MASKED - 1),
    "grid with a border": (lambda _, x: turned(x, "border"), True, MASKED),
    "instance norm": (lambda self, x: self.instance(x), True, MASKED),
    "instance norm without weights": (lambda self, x: self.plain_instance(x), True, MASKED),
    "windows": (lambda _, x: F.fold(F.unfold(x, 3, padding=1), x.shape[-2:], 3, padding=1), False, MASKED),
    "pixels of a mask": (lambda _, x: x.permute(0, 2, 3, 1)[x.sum(1) > 1].mean(0)[None, :, None, None], False, MASKED),
    "padded to a multiple of 17": (lambda _, x: F.pad(x, (0, 0, 0, -x.shape[2] % 17)), False, MASKED),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str) -> None:
    function, positive, removed = MAPS[name]
    assert pruned(function, positive=positive, dimensions=2).report.removed == removed


LAST: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "no overlap": (lambda: nn.ConvTranspose2d(WIDTH, 3, 2, 2), MASKED - 1),
    "overlap": (lambda: nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1), MASKED - 1),
    "no bias": (lambda: nn.ConvTranspose2d(WIDTH, 3, 3, bias=False), MASKED - 1),
    "volumes": (lambda: nn.Sequential(nn.Unflatten(3, (-1, 1)), nn.ConvTranspose3d(WIDTH, 3, 2, 2)), MASKED - 1),
    "depthwise": (
        lambda: nn.Sequential(nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, 1, groups=WIDTH), nn.Conv2d(WIDTH, 2, 1)),
        0,
    ),
}


@pytest.mark.parametrize("name", LAST)
def test_constants_of_transposed_convolutions(name: str) -> None:
    make, removed = LAST[name]
    assert pruned(lambda _, x: x, positive=True, dimensions=2, last=make).report.removed >= removed


def test_channels_beside_constant_ones() -> None:
    """A shortcut of a residual network that is widened with zeros."""

    def widened(_: Any, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 2, 3)) + F.pad(x.flip(2), (0, 0, 2, 3))

    assert pruned(widened, width=WIDTH + 5).report.removed == MASKED


def test_deformable_convolutions() -> None:
    class Deformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = nn.Conv2d(WIDTH, 18, 3, padding=1)
            self.conv = torchvision.ops.DeformConv2d(WIDTH, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, self.offset(x).tanh())

    assert pruned(lambda _, x: x, positive=True, dimensions=2, last=Deformed).report.removed == MASKED - 1
    assert pruned(lambda _, x: x, dimensions=2, last=Deformed).report.removed == MASKED


def test_regions() -> None:
    def regions(_: Any, x: Tensor) -> Tensor:
        boxes = [torch.tensor([[1.0, 2.0, 9.0, 8.0], [-3.0, 0.0, 5.0, 5.0]], dtype=x.dtype)] * len(x)
        return torchvision.ops.roi_align(x, boxes, (3, 3))

    assert pruned(regions, positive=True, dimensions=2).report.removed == MASKED - 1


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_transposed_convolutions_of_groups(bias: bool, positive: bool) -> None:
    def last() -> nn.Module:
        layers = nn.ConvTranspose2d(WIDTH, 8, 4, 2, 1, groups=2, bias=bias), nn.BatchNorm2d(8), nn.ReLU()
        layers[1].weight.data.copy_(torch.tensor([0, 1, 2, 0, 3, 0, 0, 4]))
        layers[1].bias.data.copy_(torch.linspace(-0.5, 1, 8))
        return nn.Sequential(*layers, nn.ConvTranspose2d(8, 4, 3, groups=2))

    result = pruned(lambda _, x: x, positive=positive, dimensions=2, last=last)
    assert result.model.last[0].in_channels == result.model.norm.num_features
    if not positive:
        assert result.report.removed >= 4


@pytest.mark.parametrize("shaped", [lambda x: x.view(len(x), -1, 3, 3), lambda x: x.unflatten(1, (-1, 3, 3))])
def test_maps_made_of_vectors(shaped: Callable[[Tensor], Tensor]) -> None:
    class Shaped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return shaped(x)

    def last() -> nn.Module:
        norm = nn.BatchNorm2d(6)
        norm.weight.data[:2] = 0
        return nn.Sequential(nn.Linear(WIDTH, 54), Shaped(), norm, nn.ReLU(), nn.ConvTranspose2d(6, 3, 4, 2))

    result = pruned(lambda _, x: x.mean((2, 3)), positive=True, dimensions=2, last=last)
    assert result.model.last[0].out_features == 36 + 9 * (result.model.last[2].num_features - 4)
    assert result.report.layers["last.2"].removed >= 1


FIXED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "literal positions": lambda _, x: x[:, torch.arange(WIDTH - 1, -1, -1)],
    "a literal mask": lambda _, x: torch.cat([x, x], 1)[:, torch.arange(2 * WIDTH) % 2 > 0],
    "a constant of literal width": lambda _, x: x + torch.linspace(0, 1, WIDTH, dtype=x.dtype).view(-1, 1),
    "a literal canvas": lambda _, x: x.new_zeros(len(x), WIDTH, x.shape[2]).copy_(x),
    "positions of what comes in": lambda _, x: x[:, x.sum((0, 2)).argsort()],
    "positions of a number of channels": lambda _, x: x[:, torch.arange(x.shape[1]).roll(1)],
    "a maximum over channels": lambda _, x: x - x.amax(1, keepdim=True),
    "a mean that is added": lambda _, x: x - x.mean(1, keepdim=True),
    "a mean in a sigmoid": lambda _, x: x * x.mean(1, keepdim=True).sigmoid(),
    "a deviation over channels": lambda _, x: x * x.std(1, keepdim=True),
    "a Gram matrix": lambda _, x: torch.bmm(x, x.mT).softmax(-1) @ x,
    "a sum along channels": lambda _, x: x.cumsum(1),
    "sorted channels": lambda _, x: x.sort(1)[0],
    "group norm": lambda _, x: F.group_norm(x, 2),
    "attention": lambda self, x: attended(x, lambda y: self.attention(y, y, y)[0]),
    "scaled products": lambda _, x: attended(x, lambda y: F.scaled_dot_product_attention(y, y, y)),
}


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("name", FIXED)
def test_what_needs_all_channels_keeps_its_own(name: str, positive: bool) -> None:
    result = pruned(FIXED[name], positive=positive)
    assert not any("can be cut" in note for note in result.report.notes)


SHUFFLES: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda x: shuffled(x, 2, x.shape[1] // 2),
    "view of what is left": lambda x: shuffled(x, 2, -1),
    "back": lambda x: shuffled(x, -1, 2),
    "unflatten": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
    "there and back": lambda x: shuffled(shuffled(x, 2, -1), -1, 2),
    "twice": lambda x: shuffled(shuffled(x, 2, -1), 2, -1),
}


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("name", SHUFFLES)
def test_channels_stay_so_that_a_shuffle_keeps_their_order(name: str, positive: bool) -> None:
    result = pruned(lambda _, x: SHUFFLES[name](x), positive=positive)
    assert result.report.removed >= (2 if name != "twice" else 0)
    assert {reason.kind for reason in result.report.layers["norm"].held.values()} <= {"balance", "representative"}
    assert not any("can be cut" in note for note in result.report.notes)


def test_layers_in_front_of_what_is_not_understood_are_pruned() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 8), (8, 8)):
        layers += [nn.Conv1d(before, after, 1), nn.BatchNorm1d(after), nn.ReLU()]
        layers[-2].weight.data[:3] = 0
    model = nn.Sequential(*layers[:6], nn.GroupNorm(2, 8), *layers[6:], nn.Conv1d(8, 2, 1)).eval()
    removed = prune_channels(model, torch.rand(2, 3, 9), threshold=1e-20).plan.removed
    assert removed == {"1": [0, 1, 2], "8": [0, 1, 2]}


ROOT = Path(__file__).parents[2]


def test_the_table_of_operators_in_the_docs() -> None:
    text = (ROOT / "docs/how-to/prune.md").read_text(encoding="utf-8")
    rows = [f"| {description.rstrip('.')} | {' '.join(names)} |" for description, names in operators().items()]
    assert text.endswith("\n".join(rows) + "\n")
    assert "\n".join(coverage(RECORDED)) in text


RECORDED = json.loads((ROOT / "tests/reference/operators.json").read_text(encoding="utf-8"))
"""Recorded by `benchmarks/operators.py`."""


@pytest.mark.parametrize("package", ["timm", "torchvision", "smp", "ultralytics"])
def test_networks_of_images_call_little_that_freezes(package: str) -> None:
    assert RECORDED[package]["networks"] >= 15
    assert len(freezing(RECORDED[package]["operators"])) <= 8


def test_a_detector_of_many_parts() -> None:
    torch.manual_seed(0)
    model = randomize(Detector().double(), share=0.4, seed=1).eval()
    example = torch.rand(1, 3, 48, 64, dtype=torch.float64)
    result = prune_channels(model, example, threshold=1e-20, bn_bias="zero")
    assert result.report.share == 1
    masked = result.plan.mask(copy.deepcopy(model))
    for size in ((48, 64), (40, 72)):
        image = torch.rand(1, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            found, expected = result.model(image), masked(image)
        assert found.keys() == expected.keys()
        assert torch.equal(found["labels"], expected["labels"])
        assert max(difference(expected[key], found[key]) for key in ("boxes", "scores", "raw")) <= 1e-12
