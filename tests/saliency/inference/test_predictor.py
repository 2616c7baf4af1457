"""The same maps from every engine."""

import importlib.util
import os

import numpy as np
import pytest
import torch
from torch import nn

from goctconv.deployment import OnnxEngine, deploy, export_onnx
from goctconv.saliency import Predictor, predict
from saliency.pictures import gradient

pytestmark = [
    # torch and onnxscript warn about each other's and their own names while they export
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]

PACKAGES = {"torch": "torch", "native": "ziglang", "onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture
def model():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 1, 1)
    )
    network[1].running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("backend", PACKAGES)
def test_maps_are_those_of_predict(backend, model):
    if importlib.util.find_spec(PACKAGES[backend]) is None:
        pytest.skip(f"needs {PACKAGES[backend]}")
    arrays = [gradient(*shape) for shape in ((30, 40), (64, 64), (41, 53))]
    expected = predict(model, arrays, size=(48, 64))
    predictor = Predictor(model, backend=backend, size=(48, 64), batch_size=2)
    assert predictor.backend == backend
    for _ in range(2):
        for found, wanted in zip(predictor(arrays), expected, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert model.training
    with pytest.raises(TypeError, match="must be a list"):
        predictor(arrays[0])


@pytest.mark.parametrize("backend", PACKAGES)
def test_images_keep_their_size(backend, model):
    if importlib.util.find_spec(PACKAGES[backend]) is None:
        pytest.skip(f"needs {PACKAGES[backend]}")
    arrays = [gradient(*shape) for shape in ((40, 50), (40, 50), (33, 64), (20, 45))]
    expected = predict(model, arrays, size="own")
    for found, wanted in zip(Predictor(model, backend=backend, size="own")(arrays), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_file_of_one_size(backend, model, tmp_path):
    if importlib.util.find_spec(PACKAGES[backend]) is None:
        pytest.skip(f"needs {PACKAGES[backend]}")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    file = tmp_path / "net.onnx"
    export_onnx(model, file, size=(48, 64))
    expected = predict(model, [gradient()], size=(48, 64))[0]
    found = Predictor(file, backend=backend, size=(48, 64))([gradient()])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for size, asked in ((64, "64x64"), ("own", "any size")):
        with pytest.raises(ValueError, match=rf"net\.onnx' takes images of 48x64 alone, not of {asked}"):
            Predictor(file, backend=backend, size=size)


def test_files_are_loaded_by_what_reads_them(model, tmp_path):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    file = tmp_path / "net.onnx"
    export_onnx(model, file)
    assert Predictor(file).backend == "onnx"
    expected = predict(model, [gradient()], size=64)[0]
    np.testing.assert_allclose(Predictor(str(file), size=64, threads=1)([gradient()])[0], expected, rtol=0, atol=1e-5)
    if importlib.util.find_spec("openvino") is not None:
        predictor = Predictor(file, backend="openvino", size=64)
        np.testing.assert_allclose(predictor([gradient()])[0], expected, rtol=0, atol=1e-5)
    images = np.random.default_rng(0).standard_normal((3, 3, 40, 50)).astype(np.float32)
    whole, split = OnnxEngine(file, threads=1)(images), OnnxEngine(file, threads=2, split=True)(images)
    np.testing.assert_allclose(split, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "tensorrt"}, ValueError, "must be one of"),
        ({"threads": 2}, ValueError, "torch.set_num_threads"),
        ({"backend": "onnx", "device": "cuda"}, ValueError, "runs on the processor"),
        ({"backend": "onnx", "threads": 0}, ValueError, "threads=0"),
        ({"backend": "onnx", "threads": 2.5}, ValueError, "threads=2.5"),
        ({"backend": "onnx", "threads": True}, ValueError, "threads=True"),
        ({"size": 8}, ValueError, "at least 32"),
        ({"size": "owm"}, TypeError, "or 'own'"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": "2"}, TypeError, "batch_size='2'"),
        ({"model": 3}, TypeError, "must be a torch.nn.Module, or the path"),
        ({"model": "net.pth"}, ValueError, r"ends in \.onnx or \.xml"),
        (
            {"model": "net.xml", "backend": "onnx"},
            ValueError,
            "backend='onnx' must be one of 'openvino'",
        ),
        ({"model": "net.onnx"}, FileNotFoundError, "no such file"),
    ],
)
def test_what_does_not_go_together(arguments, error, message):
    with pytest.raises(error, match=message):
        Predictor(**{"model": nn.Conv2d(3, 1, 1), **arguments})


def test_a_deployed_network_stays_where_it_is(model):
    deployed = deploy(model)
    Predictor(deployed, size=64, device="meta")
    assert {parameter.device.type for parameter in deployed.parameters()} == {"cpu"}
    for device in ("auto", "cpu"):
        assert Predictor(deployed, size=64, device=device)._network is deployed


def test_what_is_no_map(model):
    with pytest.raises(ValueError, match="single output map"):
        Predictor(nn.Conv2d(3, 2, 1), size=32)([gradient()])
    with torch.no_grad():
        model[3].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not a number"):
        Predictor(model, size=32)([gradient()])


@pytest.mark.parametrize(("name", "package"), [("net.onnx", "onnxruntime"), ("net.xml", "openvino")])
def test_a_damaged_file_is_named(tmp_path, name, package):
    pytest.importorskip(package)
    file = tmp_path / name
    file.write_text("no network", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s){name}' cannot be loaded by .*: export it again"):
        Predictor(file)


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [
        ("net.onnx", 3 << 30, r"net\.onnx has 3,072\.0 MiB, of at most 2,048"),
        ("net.xml", 33 << 20, r"net\.xml has 33\.0 MiB, of at most 32"),
        ("net.bin", 3 << 30, r"net\.bin has 3,072\.0 MiB, of at most 2,048"),
    ],
)
def test_files_are_refused_by_their_length_before_they_are_read(tmp_path, name, length, message):
    (tmp_path / "net.xml").write_text("<net/>", encoding="utf-8")
    (tmp_path / name).write_bytes(b"")
    os.truncate(tmp_path / name, length)  # a file of zeros that takes no space on the disk
    file = tmp_path / ("net.onnx" if name == "net.onnx" else "net.xml")
    with pytest.raises(ValueError, match=rf"model='.*' is refused: {message}: export the network again"):
        Predictor(file)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("shape", "others", "message"),
    [
        (("b", "c"), (), r"is no network that takes float32 images \(B, C, H, W\) alone"),
        (("b", 3, "h", "w"), ("more",), r"is no network that takes float32 images \(B, C, H, W\) alone"),
        (("b", 1, "h", "w"), (), "takes images of 1 channels, not of 3: export a network of photographs"),
    ],
)
def test_networks_that_take_no_photographs_are_refused(tmp_path, backend, shape, others, message):
    pytest.importorskip(PACKAGES[backend])
    onnx = pytest.importorskip("onnx")
    names = ["image", *others]
    values = {name: onnx.helper.make_tensor_value_info(name, 1, shape) for name in (*names, "maps")}
    node = onnx.helper.make_node("Max", names, ["maps"])
    graph = onnx.helper.make_graph([node], "net", [values[name] for name in names], [values["maps"]])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match=rf"net\.onnx' {message}"):
        Predictor(tmp_path / "net.onnx", backend=backend, size=64)
