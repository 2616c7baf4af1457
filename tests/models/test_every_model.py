"""What every registered model must do; a new one needs nothing here but its registration."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.torch_version import TorchVersion

import goctconv
from reference.conditioning import calibrated

CSNETS = [name for name in goctconv.list_models() if "csnet" in name]
# Of CSF on its backbones, whose heads differ in widths alone, the tiny one stands for all; see test_csf_backbones.py.
NAMES = [*CSNETS, "test_csf_resnet", "test_scfnet", pytest.param("csf_resnet18", marks=pytest.mark.slow)]
COMPILED_FAST = {"test_csnet"}
HEAVY = [name if name in COMPILED_FAST else pytest.param(name, marks=pytest.mark.slow) for name in CSNETS]
HEAVY += [pytest.param(name, marks=pytest.mark.slow) for name in ("test_csf_resnet", "test_scfnet")]


def image(batch: int = 2, height: int = 67, width: int = 83, **kwargs: object) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(7)).to(**kwargs)


@functools.cache
def _prepared(name: str) -> nn.Module:
    torch.manual_seed(0)
    # A fresh ResNet ends its blocks with γ of 0, behind which nothing would learn.
    options = {"backbone_args": {"zero_init_last": False}} if "csf_resnet" in name else {}
    return calibrated(goctconv.create_model(name, **options), image(4, 64, 64))


def prepared(name: str) -> nn.Module:
    """A calibrated model in eval mode, its own copy for each test."""
    return copy.deepcopy(_prepared(name))


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def test_the_registry_is_not_empty() -> None:
    assert len(CSNETS) >= 8
    assert len(goctconv.list_models()) - len(CSNETS) >= 7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 64, 64), (3, 32, 32), (1, 67, 83), (2, 33, 95)])
def test_forward(name: str, size: tuple[int, int, int]) -> None:
    batch, height, width = size
    model = prepared(name)
    logits = outputs(model, image(batch, height, width))
    assert logits.shape == (batch, 1, height, width)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
    single = outputs(model, image(batch, height, width)[:1])
    assert relative(logits[:1], single) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    model = prepared(name).train()
    predict = getattr(model, "forward_multi", lambda x: (model(x),))  # where there are several, each has its own layer
    sum(logits.square().mean() for logits in predict(image(2, 64, 64))).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert idle == []
    assert all(float(p.grad.abs().max()) > 0 for p in model.parameters() if p.dim() == 4)


@pytest.mark.parametrize("name", HEAVY)
def test_compiles_into_one_graph(name: str) -> None:
    model = prepared(name)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for x in (image(2, 64, 64), image(1, 67, 83)):
        assert relative(outputs(compiled, x), outputs(model, x)) < 1e-5


@pytest.mark.skipif(
    TorchVersion(torch.__version__) < (2, 10),
    reason="torch 2.6 and 2.9 fix the parity of pooled sizes while they export; 2.15 does not",
)
@pytest.mark.parametrize("name", HEAVY)
def test_exports_with_dynamic_batch_and_size(name: str) -> None:
    model = prepared(name)
    least = 32 if "csnet" in name else 33  # of one pixel, a feature is a size of its own to torch.export
    dims = {0: torch.export.Dim("b", max=64), 2: torch.export.Dim("h", min=least, max=4096)}
    dims[3] = torch.export.Dim("w", min=least, max=4096)
    # Pooling that rounds up, of the ResNet in CSF, has a bound that holds and that torch.export does not prove.
    options = {"prefer_deferred_runtime_asserts_over_guards": True} if "csf" in name else {}
    exported = torch.export.export(model, (image(2, 67, 83),), dynamic_shapes={"x": dims}, **options).module()
    for x in (image(2, 67, 83), image(1, 96, 50)):
        assert relative(outputs(exported, x), outputs(model, x)) < 1e-5


@pytest.mark.slow
def test_inductor_on_the_tiny_model() -> None:
    model = prepared("test_csnet")
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    assert relative(outputs(compiled, image(2, 64, 64)), outputs(model, image(2, 64, 64))) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_equal_and_independent(name: str) -> None:
    model = prepared(name)
    expected = outputs(model, image())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  # our own bytes
        assert_close(outputs(other, image()), expected, rtol=0, atol=0)
        nn.init.zeros_(other.classifier.weight)
        assert_close(outputs(model, image()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_carries_everything(name: str) -> None:
    model, fresh = prepared(name), goctconv.create_model(name).eval()
    fresh.load_state_dict(model.state_dict())
    assert_close(outputs(fresh, image()), outputs(model, image()), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_precisions_and_layouts(name: str) -> None:
    model = prepared(name)
    expected = outputs(copy.deepcopy(model).double(), image(dtype=torch.float64))
    assert expected.dtype == torch.float64
    assert relative(outputs(model, image()), expected) < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outputs(model, image())
    assert relative(rounded, expected) < 0.1
    last = outputs(copy.deepcopy(model).to(memory_format=torch.channels_last), image(memory_format=torch.channels_last))
    assert relative(last, expected) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_prediction_layer_can_be_replaced(name: str) -> None:
    model = prepared(name)
    features = outputs(model.forward_features, image())
    assert features.shape[1] == model.num_features
    assert_close(model.forward_head(features, size=(67, 83)), outputs(model, image()), check_stride=False)
    model.reset_classifier(5)
    assert outputs(model, image()).shape[1] == 5
    model.reset_classifier(0)
    assert_close(outputs(model, image()), features)
    assert isinstance(model.get_classifier(), nn.Identity)


@pytest.mark.parametrize("name", NAMES)
def test_other_images_and_classes(name: str) -> None:
    model = goctconv.create_model(name, in_chans=1, num_classes=3)
    assert model(image(2, 64, 64)[:, :1]).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("name", CSNETS)
def test_too_small_an_image_is_named(name: str) -> None:
    with pytest.raises(goctconv.ScaleError, match=r"\(15, 64\).*at least 16x16"):
        goctconv.create_model(name)(image(1, 15, 64))
