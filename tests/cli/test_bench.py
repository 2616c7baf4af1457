import importlib.util
import json
import time

import pytest
import torch
from torch import nn

import goctconv
from goctconv.cli import main
from goctconv.cli.bench import _measure, _run
from goctconv.cli.bench._run import LEGEND, model_lines
from goctconv.deployment import _engines


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_figures_are_printed_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_run, "_TIMES", 1)
    file = tmp_path / "speed.json"
    options = ["--size", "32", "--batch-size", "2", "--rounds", "2", "--threads", "1", "--device", "cpu"]
    assert main(["bench", "test_csnet", *options, "--forms", "deployed", "channels_last", "--json", str(file)]) == 0
    text = capsys.readouterr().out
    for part in ("installed", "missing", "allocator", "1 thread", "deployed", "peak memory", "new process", LEGEND):
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

    assert main(["bench", "csnet_x9"]) == 2
    told = capsys.readouterr()
    assert "did you mean" in told.err
    assert told.out == ""
    find_spec = importlib.util.find_spec
    for form, package in (("onnx", "onnxscript"), ("openvino", "openvino")):
        with monkeypatch.context() as patched:
            patched.setattr(
                _engines.importlib.util,
                "find_spec",
                lambda name, lost=package: find_spec(name) if name != lost else None,
            )
            assert main(["bench", "test_csnet", "--weights", str(weights), "--forms", form, "--size", "32"]) == 2
        assert f"needs {package}: install them with pip install 'goctconv[{form}]'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_engines_share_one_export_of_whatever_size_the_network_takes(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    sizes = []

    class Counted(_measure.Exported):
        def __init__(self, model, *, size=None):
            sizes.append(size)
            super().__init__(model, size=size)

    class OfOneSize(nn.Conv2d):
        def forward(self, x):
            return super().forward(x.reshape(-1, 3, 40, 48))

    monkeypatch.setattr(_measure, "Exported", Counted)
    model = OfOneSize(3, 1, 3).eval()
    forms = _measure.Forms(model, (40, 48), tmp_path)
    images = torch.randn(2, 3, 40, 48)
    names = ["onnx", "openvino"] if importlib.util.find_spec("openvino") else ["onnx"]
    for name in names:
        for split in (False, True):
            form = forms.make(name)
            assert form.seconds > forms._export_seconds > 0
            found = form.load(1, split)(images)
            torch.testing.assert_close(found, model(images).detach(), rtol=1e-4, atol=1e-5)
    assert sizes == [None, (40, 48)]


def test_devices_and_channels(capsys, monkeypatch, tmp_path):
    assert main(["bench", "test_csnet", "--device", "banana"]) == 2
    assert "--device banana: this device cannot be used" in capsys.readouterr().err
    goctconv.create_model("test_csnet", in_chans=1).save_pretrained(tmp_path / "grey")
    monkeypatch.setattr(_run, "_TIMES", 1)
    options = ["--size", "32", "--batch-size", "2", "--rounds", "2", "--threads", "1", "--forms", "deployed"]
    assert main(["bench", f"local-dir:{tmp_path / 'grey'}", *options]) == 0
    assert "told_to_keep_freed_memory True" in capsys.readouterr().out


def test_a_cold_start_that_fails(monkeypatch):
    monkeypatch.setattr(_run, "_CODE", "raise SystemExit(3)")
    assert _run.measure_cold_start("no_such_net", None, (32, 32), 1) is None


def test_cuda_figures_are_told():
    one = {"median_s": 0.002, "eager_over_this": [1.0, 2.0, 3.0], "images_per_s": 500.0}
    shared = {"model": "net", "parameters": 1, "loaded_in_s": 0.1, "cold_start": None}
    empty = {"latency": {}, "throughput": {}, "forms": {}}
    text = "\n".join(model_lines({**shared, "processor": empty, "cuda": {"1": {"eager": one}, "256": None}}, 8))
    assert "2.00 ms  2.00 (1.00-3.00)  500.0/s" in text
    assert "CUDA, 256 at a time: not enough memory" in text


class Clock:
    """A CUDA event that takes the processor's time."""

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self):
        self.time = time.perf_counter()

    def elapsed_time(self, other):
        return 1000 * (other.time - self.time)


def test_cuda_is_measured_in_every_form(monkeypatch):
    """On the processor, with CUDA's functions played; it shows names, batches and failing ones, not speed."""
    seen = []
    monkeypatch.setattr(_measure, "BATCHES", (1, 2, 4))
    monkeypatch.setattr(_measure, "_cuda_graph", lambda call: call)
    monkeypatch.setattr(torch.cuda, "Event", Clock)
    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: seen.append(name))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3000)
    model = goctconv.create_model("test_csnet").eval()
    forward = type(model).forward

    def refuse_four(self, x):
        if len(x) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(type(model), "forward", refuse_four)
    found = _measure.measure_on_cuda(model, (32, 32), 2, torch.device("cpu"), compiled=False)
    assert list(found) == ["1", "2", "4"]
    assert found["4"] is None
    assert "empty_cache" in seen
    forms = [f"{form}{last}" for form in ("eager", "deployed", "deployed bf16") for last in ("", ", channels_last")]
    for batch in ("1", "2"):
        assert sorted(found[batch]) == sorted([*forms, *(f"{form}, CUDA graph" for form in forms)])
        for form, one in found[batch].items():
            assert one["images_per_s"] == int(batch) / one["median_s"]
            assert one["peak_memory_bytes"] == (None if "graph" in form else 2000)
