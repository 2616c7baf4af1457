"""A deployed network computes what the network computes, and tells what was done to it."""

from __future__ import annotations

import copy
import io
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.profiler import ProfilerActivity, profile

import goctconv
from goctconv import CrossStageGOctConv, FusionHead, GOctConv, ILBlock, OctConv, ParallelDilatedConv, PerScale
from goctconv.deployment import DeployedModel
from goctconv.layers import PReLU, SimplifiedGOctConv, _resample
from goctconv.models import CSF
from reference.conditioning import calibrated
from reference.zoo.wiring import ByName, Chain, Tapped

SIZES = ((1, 64, 64), (3, 67, 83), (2, 33, 95))


def largest_difference(found: Any, expected: Any) -> float:
    pairs = list(zip(as_tuple(found), as_tuple(expected), strict=True))
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs if b.numel())


def as_tuple(features: Any) -> tuple[Tensor, ...]:
    return (features,) if isinstance(features, Tensor) else tuple(features)


def tiny(name: str = "test_csnet") -> nn.Module:
    torch.manual_seed(0)
    if name == "csf":
        model: nn.Module = CSF("test_resnet", norm="batch")
    else:
        model = goctconv.create_model(name)
    return calibrated(model, torch.randn(4, 3, 64, 64))


@pytest.mark.parametrize("name", ["test_csnet", "csf", "test_csf_resnet"])
@torch.no_grad()
def test_it_computes_the_same(name: str) -> None:
    model = tiny(name)
    before = copy.deepcopy(model.state_dict())
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        network = copy.deepcopy(model).to(dtype)
        deployed = goctconv.deploy(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
        for batch, height, width in SIZES:
            x = torch.randn(batch, 3, height, width, dtype=dtype)
            assert largest_difference(deployed(x), network(x)) < tolerance
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def normalised(layer: Any, activation: Any = PReLU) -> tuple[nn.Module, nn.Module, nn.Module]:
    channels = layer.out_channels
    return layer, PerScale(nn.BatchNorm2d, channels), PerScale(activation, channels)


def features(*widths: int, side: int = 37, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(3, width, side // 2**scale, (side + 10) // 2**scale, dtype=dtype)
        for scale, width in enumerate(widths)
    )


CASES = {
    "three scales, one of them absent": (
        lambda: normalised(GOctConv((5, 0, 3), (4, 7, 0), 3)),
        lambda dtype: features(5, 0, 3, dtype=dtype),
    ),
    "stride and bias": (
        lambda: normalised(GOctConv((5, 2), (1, 3), 3, stride=2)),
        lambda dtype: features(5, 2, dtype=dtype),
    ),
    "reflection": (
        lambda: normalised(GOctConv((5, 2), (2, 3), 3, padding_mode="reflect")),
        lambda dtype: features(5, 2, dtype=dtype),
    ),
    "even kernel": (lambda: normalised(GOctConv((5, 2), 3, 2)), lambda dtype: features(5, 2, dtype=dtype)),
    "groups and average": (
        lambda: normalised(GOctConv((4, 2), (2, 6), 3, groups=2, downsample="avg", upsample="nearest")),
        lambda dtype: features(4, 2, dtype=dtype),
    ),
    "octave": (
        lambda: (OctConv(8, 6, 3), OctConv(6, 5, 3, alpha_out=0)),
        lambda dtype: features(4, 4, dtype=dtype),
    ),
    "across stages": (
        lambda: normalised(CrossStageGOctConv((4, 3), (2, 5), in_reductions=(1, 4), out_reductions=(2, 4))),
        lambda dtype: (torch.randn(2, 4, 36, 44, dtype=dtype), torch.randn(2, 3, 9, 11, dtype=dtype)),
    ),
    "depthwise": (
        lambda: normalised(SimplifiedGOctConv((4, 0, 1), 3, stride=2, weight_scale=100.0)),
        lambda dtype: features(4, 0, 1, dtype=dtype),
    ),
    "dilated": (
        lambda: normalised(ParallelDilatedConv((4, 3), ((1, 2, 0, 1, 2), (0, 0, 0, 0, 0)))),
        lambda dtype: features(4, 3, dtype=dtype),
    ),
    "dilated, with more channels than a vector": (
        lambda: normalised(ParallelDilatedConv((4, 3), ((5, 6, 0, 7, 2), (0, 0, 9, 0, 0)), bias=True)),
        lambda dtype: features(4, 3, dtype=dtype),
    ),
    "dilated, with biases": (
        lambda: normalised(ParallelDilatedConv((4, 3), ((5, 1, 0, 7, 2), (0, 0, 9, 0, 0)), bias=True)),
        lambda dtype: features(4, 3, dtype=dtype),
    ),
    "pixel by pixel": (
        lambda: [*normalised(GOctConv((20, 18), (17, 8), 1, bias=False)), GOctConv((17, 8), (1, 1), 1)],
        lambda dtype: features(20, 18, dtype=dtype),
    ),
    "pixel by pixel, few": (
        lambda: [*normalised(GOctConv((20, 18), (17, 8), 1)), GOctConv((17, 8), (0, 1), 1), GOctConv((0, 1), 5, 1)],
        lambda dtype: features(20, 18, side=9, dtype=dtype),
    ),
    "plain": (lambda: normalised(GOctConv(3, 4, 3), lambda _: nn.ELU()), lambda dtype: features(3, dtype=dtype)[0]),
    "block": (lambda: [ILBlock((3, 2), (4, 5), 3, 2)], lambda dtype: features(3, 2, dtype=dtype)),
    "block that stays dense": (
        lambda: [ILBlock(3, (4, 5), simplified=False, activation=lambda _: nn.ReLU())],
        lambda dtype: features(3, dtype=dtype)[0],
    ),
    "block with other layers": (
        lambda: [
            ILBlock((3, 2), (4, 6), norm=lambda c: nn.GroupNorm(2, c), activation=lambda _: nn.LeakyReLU(0.2)),
            ILBlock((4, 6), (4, 0), activation=lambda _: nn.SiLU(), norm=lambda _: nn.Identity(), weight_scale=2.0),
        ],
        lambda dtype: features(3, 2, dtype=dtype),
    ),
    "head": (
        lambda: [FusionHead((4, 3), (6, 5), downsample="bilinear", weight_scale=3.0)],
        lambda dtype: features(4, 3, dtype=dtype),
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch's
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_layers_of_every_kind(case: str) -> None:
    make, inputs = CASES[case]
    torch.manual_seed(0)
    network = Chain(*make()).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.PReLU):
            module.weight.uniform_(-0.5, 1.5)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        model, x = copy.deepcopy(network).to(dtype), inputs(dtype)
        given = copy.deepcopy(x)
        deployed = goctconv.deploy(model, example_inputs=(x,))
        assert largest_difference(deployed(x), model(x)) < tolerance
        assert largest_difference(x, given) == 0
        assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())


@torch.no_grad()
def test_elsewhere_only_what_is_provable_is_folded() -> None:
    torch.manual_seed(0)
    model = calibrated(Tapped(), torch.randn(8, 3, 16, 16))
    deployed = goctconv.deploy(model)
    assert set(deployed.deployment.folded) == {"norm3", "norm4"}
    assert any("2 BatchNorm layers" in note for note in deployed.deployment.notes)
    x = torch.randn(2, 3, 20, 21)
    assert largest_difference(deployed(x), model(x)) < 1e-5


@torch.no_grad()
def test_hooks_and_inputs_that_are_unknown_are_left_alone() -> None:
    class Odd(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.reshape(2, 3, 5, 5))

    model = calibrated(Odd(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.randn(2, 75))
    without = goctconv.deploy(model)
    assert without.deployment.folded == ()
    assert "example_inputs" in str(without.deployment)
    x = torch.randn(2, 75)
    assert goctconv.deploy(model, example_inputs=x).deployment.folded == ("1",)
    model[0].register_forward_hook(lambda *_: None)
    assert goctconv.deploy(model, example_inputs=x).deployment.folded == ()
    with pytest.raises(ValueError, match=r"example_inputs=.* cannot be run by the network"):
        goctconv.deploy(model, example_inputs=torch.randn(1, 3))


class Doubled(nn.Conv2d):
    """A convolution of somebody else's."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@torch.no_grad()
def test_layers_of_others_inside_of_blocks_are_left_alone() -> None:
    torch.manual_seed(0)
    block = ILBlock(3, (4, 3), 3)
    block.conv1.paths["0_to_1"] = Doubled(3, 3, 3, padding=1)
    head = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 1))
    old = nn.utils.prune.random_unstructured(nn.Conv2d(2, 2, 1), "weight", 1)
    model = calibrated(Chain(block, goctconv.SelectScale(0), head, old), torch.randn(2, 3, 32, 32))
    deployed = goctconv.deploy(model)
    folded = {name for name in deployed.deployment.folded if name.startswith("layers.0.norm1")}
    assert folded == {"layers.0.norm1.0"}  # behind the one convolution that is PyTorch's
    assert deployed.deployment.rewritten == ("layers.0.conv2", "layers.0.conv3")
    x = torch.randn(1, 3, 33, 32)
    assert largest_difference(deployed(x), model(x)) < 1e-4


@torch.no_grad()
def test_paths_of_zeros_go_and_denormal_weights_become_zero() -> None:
    model = tiny()
    block = model.stages[1][0]
    block.conv1.paths["0_to_1"].weight.zero_()
    block.conv1.paths["0_to_0"].weight.view(-1)[:3] = 1e-40
    block.norm1.get_submodule("0").weight.fill_(1)
    block.norm1.get_submodule("0").running_var.fill_(1)
    deployed = goctconv.deploy(model)
    assert deployed.deployment.dropped == ("stages.1.0.conv1.paths.0_to_1",)
    assert deployed.deployment.flushed >= 3
    for tensor in deployed.state_dict().values():
        assert not ((tensor != 0) & (tensor.abs() < torch.finfo(torch.float32).tiny)).any()
    x = torch.randn(1, 3, 64, 64)
    assert largest_difference(deployed(x), model(x)) < 1e-4
    assert largest_difference(goctconv.deploy(model.double())(x.double()), model(x.double())) < 1e-12


@torch.no_grad()
def test_types_are_converted_on_the_way_in_and_out() -> None:
    model, x = tiny(), torch.randn(2, 3, 64, 64)
    expected = model(x)
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.03)):
        deployed = goctconv.deploy(model, dtype=dtype)
        assert {one.dtype for one in deployed.state_dict().values()} == {dtype}
        assert largest_difference(deployed(x), expected) < tolerance
        assert largest_difference(deployed.forward_head(deployed.forward_features(x)), expected) < tolerance
        assert deployed.deployment.dtype in str(dtype)


@torch.no_grad()
def test_copies_weights_and_other_uses() -> None:
    model, x = tiny(), torch.randn(2, 3, 67, 83)
    deployed = goctconv.deploy(model)
    expected = deployed(x)
    for copied in (copy.deepcopy(deployed), _pickled(deployed)):
        assert largest_difference(copied(x), expected) < 1e-5
        for parameter in deployed.parameters():
            assert not parameter.requires_grad
    other = tiny()
    for parameter in other.parameters():
        parameter.mul_(1.01)
    changed = goctconv.deploy(other)
    assert largest_difference(changed(x), expected) > 1e-3
    changed.load_state_dict(deployed.state_dict())
    assert largest_difference(changed(x), expected) < 1e-5
    assert largest_difference(deployed.double()(x.double()), expected.double()) < 1e-4
    assert deployed.num_classes == 1
    _, found = deployed.forward_intermediates(x.double())
    assert [one.shape[1] for one in found] == [info["num_chs"] for info in model.feature_info]


def _pickled(deployed: DeployedModel) -> DeployedModel:
    buffer = io.BytesIO()
    torch.save(deployed, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def test_gradients_of_the_image_export_and_compilation() -> None:
    model, x = tiny(), torch.randn(1, 3, 64, 64)
    deployed = goctconv.deploy(model)
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    deployed(found).sum().backward()
    model(expected).sum().backward()
    assert largest_difference(found.grad, expected.grad) < 1e-4
    with torch.no_grad():
        program = torch.export.export(deployed, (x,))
        assert largest_difference(program.module()(x), deployed(x)) < 1e-4
        compiled = goctconv.deploy(model, backend="compile")
        assert compiled.deployment.backend == "compile"
        eager = torch.compile(deployed, backend="eager", fullgraph=True)
        assert largest_difference(eager(x), deployed(x)) < 1e-4


@pytest.mark.slow
def test_compiled_by_inductor() -> None:
    torch.manual_seed(0)
    block = calibrated(Chain(ILBlock(3, (4, 3), 3)), torch.randn(2, 3, 32, 32))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        deployed = goctconv.deploy(block, backend="compile")
        assert largest_difference(deployed(x), block(x)) < 1e-4
        assert largest_difference(copy.deepcopy(deployed)(x), block(x)) < 1e-4
    assert list(deployed.state_dict()) == list(goctconv.deploy(block).state_dict())


@pytest.mark.slow
@torch.no_grad()
def test_the_released_network(shared: Path) -> None:
    file = shared / "weights" / "csnet-L-x1.pth.tar"
    model = goctconv.create_model("csnet_x1_l", checkpoint_path=file).eval()
    deployed = goctconv.deploy(model)
    assert (len(deployed.deployment.folded), deployed.deployment.flushed > 100) == (106, True)
    x = torch.randn(1, 3, 225, 223)
    assert float((deployed(x) - model(x)).abs().max()) < 1e-4
    assert largest_difference(goctconv.deploy(model.double())(x.double()), model(x.double())) < 1e-12


def test_gradients_of_one_scale_alone() -> None:
    torch.manual_seed(0)
    layer = GOctConv((4, 3), (2, 5), 3)
    deployed = goctconv.deploy(Chain(layer))
    for scale in (0, 1):
        given = features(4, 3)
        expected = torch.autograd.grad(sum(x.sum() for x in layer(needing(given, scale))), given[scale])[0]
        found = torch.autograd.grad(sum(x.sum() for x in deployed(needing(given, scale))), given[scale])[0]
        assert largest_difference(found, expected) < 1e-5


def needing(given: tuple[Tensor, ...], scale: int) -> tuple[Tensor, ...]:
    given[scale].requires_grad_()
    return given


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch's own, of PReLU's forward gradient
@torch.no_grad()
def test_forward_gradients_and_transforms_with_threads(
    monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    model = tiny()
    deployed, x = goctconv.deploy(model), torch.randn(2, 3, 32, 48)
    monkeypatch.setattr(_resample, "_PAYS_IN_BANDS", 1)
    set_threads(2)
    with forward_ad.dual_level():
        tangents = [
            forward_ad.unpack_dual(net(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
            for net in (model, deployed)
        ]
    assert largest_difference(tangents[1], tangents[0]) < 1e-4
    one_by_one = torch.func.vmap(lambda one: deployed(one[None])[0])(x)
    assert largest_difference(one_by_one, deployed(x)) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("threads", [2, 4, 8])
@pytest.mark.parametrize("name", ["csnet_x1", "csf_resnet18"])
def test_with_several_threads(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    in_bands = mock.Mock(wraps=_resample._resize_in_bands)
    monkeypatch.setattr(_resample, "_resize_in_bands", in_bands)
    monkeypatch.setattr(_resample, "_PAYS_IN_BANDS", 1)
    x = torch.randn(1, 3, 96, 64)
    model = calibrated(goctconv.create_model(name), torch.randn(2, 3, 96, 64))
    deployed = goctconv.deploy(model)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    expected = model(x)
    set_threads(threads)
    for found in (deployed(x), last(x.contiguous(memory_format=torch.channels_last))):
        assert largest_difference(found, expected) < 1e-3
    assert in_bands.call_count > 5


@torch.no_grad()
def test_arguments_by_name() -> None:
    model, x, mask = ByName(), torch.randn(1, 3, 8, 9), torch.rand(1, 1, 8, 9)
    deployed = goctconv.deploy(model, example_inputs=(mask, x))
    assert deployed.deployment.rewritten == ("conv",)
    assert largest_difference(deployed(mask=mask, x=x), model(mask, x)) < 1e-5


@torch.no_grad()
def test_too_many_channels_are_refused_as_ever() -> None:
    deployed = goctconv.deploy(nn.Conv2d(3, 1, 1))
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        deployed(torch.randn(1, 5, 8, 8))


def test_export_of_any_size() -> None:
    model, x = tiny(), torch.randn(1, 3, 64, 48)
    deployed = goctconv.deploy(model)
    sides = {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    program = torch.export.export(deployed, (x,), dynamic_shapes=(sides,))
    other = torch.randn(1, 3, 67, 83)
    with torch.no_grad():
        assert largest_difference(program.module()(other), model(other)) < 1e-4


@torch.no_grad()
def test_what_only_seems_to_be_zero_stays() -> None:
    class PlusOne(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    torch.manual_seed(0)
    for change in ("subclass", "hook"):
        layer = GOctConv((2, 2), (2, 2), 1, bias=False)
        path = layer.paths["1_to_0"]
        if change == "subclass":
            layer.paths["1_to_0"] = path = PlusOne(2, 2, 1, bias=False)
        else:
            path.register_forward_hook(lambda _module, _given, output: output + 1)
        nn.init.zeros_(path.weight)
        deployed = goctconv.deploy(Chain(layer))
        given = features(2, 2)
        assert deployed.deployment.dropped == ()
        assert largest_difference(deployed(given), layer(given)) < 1e-5


@torch.no_grad()
def test_small_numbers_of_half_precision_stay() -> None:
    conv = nn.Conv2d(3, 1, 1)
    nn.init.constant_(conv.weight, 3e-5)
    half = goctconv.deploy(conv, dtype=torch.float16)
    assert half.deployment.flushed == 0
    assert float(half.network.weight.min()) > 2.9e-5
    nn.init.constant_(conv.weight, 1e-39)
    assert goctconv.deploy(conv).deployment.flushed == 3


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # what PyTorch's own switch warns of
@torch.no_grad()
def test_onednn_can_be_switched_off() -> None:
    deployed, x = goctconv.deploy(tiny()), torch.randn(1, 3, 32, 32)
    expected = deployed(x)
    for is_on in (True, False):
        with torch.backends.mkldnn.flags(enabled=is_on), profile(activities=[ProfilerActivity.CPU]) as profiler:
            found = deployed(x)
        assert largest_difference(found, expected) < 1e-4
        assert any("mkldnn" in event.key for event in profiler.key_averages()) == is_on


def test_types_follow() -> None:
    deployed = goctconv.deploy(tiny(), dtype=torch.bfloat16)
    assert "dtype=bfloat16" in repr(deployed)
    deployed.float()
    assert "dtype=float32" in repr(deployed)
    assert deployed(torch.randn(1, 3, 32, 32).double()).dtype == torch.float64
    assert all(parameter.dtype == torch.float32 for parameter in deployed.parameters())


def test_all_outputs_are_given_by_those_that_have_more() -> None:
    deployed = goctconv.deploy(tiny("test_scfnet"))
    assert len(deployed.forward_multi(torch.randn(1, 3, 64, 64))) == 4
    assert not hasattr(goctconv.deploy(tiny()), "forward_multi")


@torch.no_grad()
def test_widths_come_and_go() -> None:
    torch.manual_seed(0)
    block = calibrated(Chain(ILBlock(3, (4, 3), 3)), torch.randn(2, 3, 32, 32))
    deployed = goctconv.deploy(block)
    for width in (*range(8, 30, 2), 8):
        x = torch.randn(1, 3, 16, width)
        assert largest_difference(deployed(x), block(x)) < 1e-4


def test_deploying_draws_no_random_numbers() -> None:
    model = tiny()
    torch.manual_seed(0)
    goctconv.deploy(model)(torch.zeros(1, 3, 32, 32))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep what they like")
def test_memory_is_kept_from_call_to_call() -> None:
    script = """
import resource, torch, goctconv
torch.set_num_threads(1)
deployed = goctconv.deploy(goctconv.create_model("csnet_x1_l"))
with torch.inference_mode():
    x = torch.randn(1, 3, 224, 224)
    for _ in range(5):
        deployed(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        deployed(x)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRELOAD", "GLIBC_"))
    }
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 1000  # pages of 4 KiB that the system had to give; some 10,000 if all are given back


def test_what_cannot_be_deployed_is_named() -> None:
    model = tiny()
    deployed = goctconv.deploy(model.train())
    assert model.training
    assert not deployed.training
    assert deployed.eval() is deployed
    with pytest.raises(ValueError, match="cannot be trained"):
        deployed.train()
    with pytest.raises(TypeError, match=r"model='csnet_x1_l' must be a torch.nn.Module"):
        goctconv.deploy("csnet_x1_l")
    with pytest.raises(AttributeError, match="no save_pretrained: save the one it was made from"):
        deployed.save_pretrained("folder")
    with pytest.raises(TypeError, match="is deployed already"):
        goctconv.deploy(deployed)
    with pytest.raises(TypeError, match=r"_orig_mod"):
        goctconv.deploy(torch.compile(model))
    with pytest.raises(ValueError, match="backend='fast' must be one of"):
        goctconv.deploy(model, backend="fast")
    with pytest.raises(TypeError, match=r"dtype=torch.int8 must be one of"):
        goctconv.deploy(model, dtype=torch.int8)
    with pytest.raises(TypeError, match=r"example_inputs=.* must be a tensor or a tuple"):
        goctconv.deploy(model, example_inputs=[torch.zeros(1)])
    with pytest.raises(ValueError, match=r"has no values in weight"):
        goctconv.deploy(nn.Conv2d(3, 3, 1, device="meta"))
    with pytest.raises(goctconv.ScaleError, match="at least 16x16"):
        deployed(torch.randn(1, 3, 8, 8))


def test_the_report_can_be_read() -> None:
    report = goctconv.deploy(tiny()).deployment
    text = str(report)
    assert "28 normalisation layers folded into convolutions" in text
    assert "25 constant factors" in text
    assert report.to_dict()["folded"] == list(report.folded)
    assert report.notes == ()
    noted = goctconv.deploy(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))).deployment
    assert "not done: 1 layers normalise by what is in the image, such as 1" in str(noted)
    diverged = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    nn.init.constant_(diverged[0].weight, float("nan"))
    assert "is not finite" in str(goctconv.deploy(diverged).deployment)
