"""ONNX files compute what the network computes."""

from __future__ import annotations

import copy
import functools
import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import goctconv
from goctconv.deployment import ExportError, export_onnx, export_openvino
from goctconv.deployment.export._check import Reference
from reference.conditioning import calibrated
from reference.zoo.outputs import Amplifier, Difference, DiffersWhenExported, OneSize, Raises, TwoOutputs, Upsampling

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = [
    # torch and onnxscript warn about each other's and their own names while they export
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


@torch.no_grad()
def largest_difference(file: Path, model: nn.Module, x: Tensor) -> float:
    (found,) = onnxruntime.InferenceSession(str(file)).run(None, {"image": x.numpy()})
    return float((torch.from_numpy(found) - model(x)).abs().max())


def test_tiny_network_at_other_sizes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = calibrated(goctconv.create_model("test_csnet", in_chans=1), torch.randn(4, 1, 64, 64)).train()
    file = tmp_path / "new" / "net.onnx"
    export_onnx(model, file)
    assert model.training
    assert [path.name for path in file.parent.iterdir()] == ["net.onnx"]
    assert b"/site-packages/" not in file.read_bytes()
    model.eval()
    for batch, height, width in ((1, 224, 224), (3, 45, 131), (2, 32, 32), (1, 99, 77)):
        assert largest_difference(file, model, torch.randn(batch, 1, height, width)) < 1e-4


@pytest.mark.slow
def test_released_network_at_four_sizes(shared: Path, tmp_path: Path) -> None:
    model = goctconv.create_model("csnet_x1_l", checkpoint_path=shared / "weights" / "csnet-L-x1.pth.tar").eval()
    export_onnx(model, tmp_path / "net.onnx")
    for batch in (1, 3):
        for height, width in ((224, 224), (67, 83), (33, 95), (160, 288)):
            assert largest_difference(tmp_path / "net.onnx", model, torch.randn(batch, 3, height, width)) < 1e-4


def test_a_wrong_export_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"older")
    with pytest.raises(ExportError, match=r"differs by .* nothing was written"):
        export_onnx(DiffersWhenExported(), file)
    assert file.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [file]


def test_untrained_network_is_refused(tmp_path: Path) -> None:
    model = goctconv.create_model("csnet_x1")
    with pytest.raises(ExportError, match=r"not finite.*calibrate"):
        export_onnx(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ImportError, match=r"needs onnxscript: .*goctconv\[onnx\]"):
        export_onnx(nn.Conv2d(3, 1, 1), tmp_path / "net.onnx")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_exported_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nn.Conv2d(3, 1, 3, padding=1).to(dtype)
    export_onnx(model, tmp_path / "net.onnx")
    assert model.weight.dtype == dtype
    assert largest_difference(tmp_path / "net.onnx", model.float(), torch.randn(2, 3, 40, 50)) < 1e-5


@pytest.mark.parametrize(
    ("model", "message"), [(TwoOutputs(), "returns a tuple"), (Raises(), "does not run on an image")]
)
def test_what_cannot_be_exported_is_named(model: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(model, tmp_path / "net.onnx")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export_onnx(model, tmp_path)


def operations(file: Path) -> Counter[str]:
    onnx = pytest.importorskip("onnx")
    return Counter(node.op_type for node in onnx.load(str(file)).graph.node)


@pytest.mark.parametrize(
    ("slope", "keep_prelu", "activation"),
    [(0.25, False, {"Mul": 1, "Max": 1}), (0.25, True, {"PRelu": 1}), (1.5, False, {"PRelu": 1})],
)
def test_the_graph_is_that_of_the_deployed_network(
    slope: float, keep_prelu: bool, activation: dict[str, int], tmp_path: Path
) -> None:
    model = Upsampling(slope).eval()
    export_onnx(model, tmp_path / "net.onnx", keep_prelu=keep_prelu)
    assert largest_difference(tmp_path / "net.onnx", model, torch.randn(2, 3, 45, 39)) < 1e-5
    found = operations(tmp_path / "net.onnx")
    sizes = {name: found.pop(name, 0) for name in ("Shape", "Squeeze", "Concat", "Gather", "Unsqueeze")}
    assert found == {"Conv": 2, "MaxPool": 1, "Resize": 1, **activation}
    assert sizes["Shape"] == 2  # height and width


def test_one_size_alone(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = Upsampling().eval()
    export_onnx(model, tmp_path / "net.onnx", size=(48, 39))
    (image,) = onnx.load(str(tmp_path / "net.onnx")).graph.input
    assert [axis.dim_value for axis in image.type.tensor_type.shape.dim] == [0, 3, 48, 39]
    assert operations(tmp_path / "net.onnx")["Shape"] <= 1  # of the batch
    for batch in (1, 2, 5):
        assert largest_difference(tmp_path / "net.onnx", model, torch.randn(batch, 3, 48, 39)) < 1e-5
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        largest_difference(tmp_path / "net.onnx", model, torch.randn(1, 3, 48, 40))


@pytest.mark.parametrize("size", [31, (64, 16), (64, 64, 64), True, "64", 64.0])
def test_a_size_that_is_none(size: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"size=.* must be one integer or \(height, width\), each at least 32"):
        export_onnx(Upsampling(), tmp_path / "net.onnx", size=size)


def test_one_size_is_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not run on .*or the one that size names"):
        export_onnx(OneSize(), tmp_path / "net.onnx")
    export_onnx(OneSize(), tmp_path / "net.onnx", size=(48, 39))
    assert largest_difference(tmp_path / "net.onnx", OneSize(), torch.randn(4, 3, 48, 39)) == 0


def test_half_precision(tmp_path: Path) -> None:
    model = Upsampling().eval()
    export_onnx(model, tmp_path / "net.onnx", dtype=torch.float16)
    difference = largest_difference(tmp_path / "net.onnx", model, torch.randn(2, 3, 45, 39))
    assert 1e-6 < difference < 1e-2
    with pytest.raises(ExportError, match=r"differs by .*tolerance=1e-06"):
        export_onnx(model, tmp_path / "net.onnx", dtype=torch.float16, tolerance=1e-6)
    with pytest.raises(ValueError, match=r"bfloat16 must be torch.float32 or torch.float16"):
        export_onnx(model, tmp_path / "net.onnx", dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_deployed_network_of_another_type(dtype: torch.dtype, tmp_path: Path) -> None:
    model = Upsampling().eval()
    deployed = goctconv.deploy(model, dtype=dtype)
    export_onnx(deployed, tmp_path / "net.onnx")
    x = torch.randn(1, 3, 45, 39)
    assert largest_difference(tmp_path / "net.onnx", copy.deepcopy(deployed.network).float(), x) < 1e-4
    assert deployed.dtype == dtype


def test_rounding_that_the_network_makes_much_of() -> None:
    reference = Reference(Amplifier(), 3, (96, 96))
    exact = [Amplifier()(image.double()).float().numpy() for image in reference.images]

    def engine(image: Any, *, off: float = 0.0) -> Any:
        return exact[[len(one) for one in reference.images].index(len(image))] + np.float32(off)

    own = max(
        float((Amplifier()(image) - torch.from_numpy(one)).abs().max())
        for image, one in zip(reference.images, exact, strict=True)
    )
    assert own > 1e-4  # else nothing is shown
    reference.compare(engine, "an engine", torch.float32, None)
    with pytest.raises(ExportError, match=r"tolerance=0.0001"):
        reference.compare(engine, "an engine", torch.float32, 1e-4)
    with pytest.raises(ExportError, match=r"nothing was written"):
        reference.compare(functools.partial(engine, off=20 * own), "an engine", torch.float32, None)
    with pytest.raises(ExportError, match=r"tolerance=0.01"):  # however much is made of a rounding
        Reference(Difference(), 3, (96, 96)).compare(np.zeros_like, "an engine", torch.float32, None)
    with pytest.raises(ExportError, match=r"differs by nan"):
        reference.compare(functools.partial(engine, off=float("nan")), "an engine", torch.float32, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_openvino(dtype: torch.dtype, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    model = Upsampling().eval()
    export_openvino(model, tmp_path / "new" / "net.xml", dtype=dtype)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["net.bin", "net.xml"]
    x = torch.randn(2, 3, 45, 39)
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(str(tmp_path / "new" / "net.xml"), "CPU", properties)([x.numpy()])[0]
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(found), model(x), rtol=0, atol=1e-5 if dtype.itemsize == 4 else 5e-3
        )


def test_openvino_of_one_size(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    model, x = Upsampling().eval(), torch.randn(2, 3, 48, 39)
    export_openvino(model, tmp_path / "net.xml", size=(48, 39))
    graph = openvino.Core().read_model(str(tmp_path / "net.xml"))
    assert [axis.is_dynamic for axis in graph.inputs[0].get_partial_shape()] == [True, False, False, False]
    found = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x.numpy()])[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=0, atol=1e-5)


def test_openvino_that_differs_is_not_written(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    with pytest.raises(ExportError, match="nothing was written"):
        export_openvino(DiffersWhenExported(), tmp_path / "net.xml")
    with pytest.raises(ValueError, match=r"must be a path that ends in \.xml"):
        export_openvino(DiffersWhenExported(), tmp_path / "net.bin")
    assert list(tmp_path.iterdir()) == []
