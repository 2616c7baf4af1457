import importlib.util
import json

import pytest
import torch
from torch import nn

from goctconv.cli import main
from goctconv.cli.bench import _cold_start, _forms, _processor
from goctconv.cli.bench._report import model_lines


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_figures_are_printed_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_cold_start, "_TIMES", 1)
    file = tmp_path / "speed.json"
    options = ["--size", "32", "--batch-size", "2", "--rounds", "2", "--threads", "1", "--device", "cpu"]
    assert main(["bench", "test_csnet", *options, "--forms", "deployed", "channels_last", "--json", str(file)]) == 0
    text = capsys.readouterr().out
    for part in ("installed", "missing", "allocator", "1 thread", "deployed", "peak memory", "new process"):
        assert part in text
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["settings"] == {"size": [32, 32], "batch_size": 2, "rounds": 2, "threads": [1], "seconds": 10}
    (model,) = document["models"]
    assert list(model["processor"]["latency"]["1"]) == ["eager", "deployed", "channels_last"]
    assert len(model["processor"]["throughput"]["1"]["deployed"]["seconds"]) == 2
    assert model["processor"]["forms"]["deployed"]["difference"] < 1e-4
    assert model["processor"]["forms"]["eager"]["peak_memory_bytes"] > 10_000
    start = model["cold_start"]
    assert 0 < start["import_torch_s"] < start["loaded_s"] < start["first_output_s"]
    assert "\n".join(model_lines(model, 2)) in text


def test_what_cannot_be_measured(capsys, monkeypatch, weights):
    assert main(["bench", "test_csnet", "test_csnet", "--weights", str(weights)]) == 2
    assert "give one MODEL" in capsys.readouterr().err

    def refuse(*_):
        raise ImportError("needs onnx: install it")

    monkeypatch.setattr(_processor.Forms, "make", refuse)
    assert main(["bench", "test_csnet", "--weights", str(weights), "--forms", "onnx"]) == 2
    assert "test_csnet: needs onnx" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_engines_share_one_export_of_whatever_size_the_network_takes(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    sizes = []

    class Counted(_forms.Exported):
        def __init__(self, model, *, size=None):
            sizes.append(size)
            super().__init__(model, size=size)

    class OfOneSize(nn.Conv2d):
        def forward(self, x):
            return super().forward(x.reshape(-1, 3, 40, 48))

    monkeypatch.setattr(_forms, "Exported", Counted)
    model = OfOneSize(3, 1, 3).eval()
    forms = _forms.Forms(model, (40, 48), tmp_path)
    images = torch.randn(2, 3, 40, 48)
    names = ["onnx", "openvino"] if importlib.util.find_spec("openvino") else ["onnx"]
    for name in names:
        for split in (False, True):
            found = forms.make(name).load(1, split)(images)
            torch.testing.assert_close(found, model(images).detach(), rtol=1e-4, atol=1e-5)
    assert sizes == [None, (40, 48)]


def test_a_cold_start_that_fails(monkeypatch):
    monkeypatch.setattr(_cold_start, "_CODE", "raise SystemExit(3)")
    assert _cold_start.measure_cold_start("no_such_net", None, (32, 32), 1) is None


def test_cuda_figures_are_told():
    one = {"median_s": 0.002, "eager_over_this": [1.0, 2.0, 3.0], "images_per_s": 500.0}
    shared = {"model": "net", "parameters": 1, "loaded_in_s": 0.1, "cold_start": None}
    empty = {"latency": {}, "throughput": {}, "forms": {}}
    text = "\n".join(model_lines({**shared, "processor": empty, "cuda": {"1": {"eager": one}, "256": None}}, 8))
    assert "2.00 ms  2.00 (1.00-3.00)  500.0/s" in text
    assert "CUDA, 256 at a time: not enough memory" in text
