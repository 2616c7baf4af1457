"""Measuring of a network's forms."""

import importlib.util
import time

import pytest
import torch
from torch import nn

import goctconv
from goctconv.deployment import Benchmark, _benchmark


def test_engines_share_one_export_of_whatever_size_the_network_takes(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    sizes = []

    class Counted(_benchmark.Exported):
        def __init__(self, model, *, size=None):
            sizes.append(size)
            super().__init__(model, size=size)

    class OfOneSize(nn.Conv2d):
        def forward(self, x):
            return super().forward(x.reshape(-1, 3, 40, 48))

    monkeypatch.setattr(_benchmark, "Exported", Counted)
    model = OfOneSize(3, 1, 3).eval()
    forms = _benchmark.Forms(model, (40, 48), tmp_path)
    images = torch.randn(2, 3, 40, 48)
    names = ["onnx", "openvino"] if importlib.util.find_spec("openvino") else ["onnx"]
    for name in names:
        for split in (False, True):
            form = forms.make(name)
            assert form.seconds > forms._export_seconds > 0
            found = form.load(1, split)(images)
            torch.testing.assert_close(found, model(images).detach(), rtol=1e-4, atol=1e-5)
    assert sizes == [None, (40, 48)]


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
    monkeypatch.setattr(_benchmark, "BATCHES", (1, 2, 4))
    monkeypatch.setattr(_benchmark, "_cuda_graph", lambda call: call)
    monkeypatch.setattr(_benchmark, "cuda_event", lambda: Clock(enable_timing=True))
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
    found = Benchmark((32, 32), rounds=2).on_cuda(model, compiled=False)
    assert list(found) == ["1", "2", "4"]
    assert found["4"] is None
    assert "empty_cache" in seen
    forms = [f"{form}{last}" for form in ("eager", "deployed", "deployed bf16") for last in ("", ", channels_last")]
    for batch in ("1", "2"):
        assert sorted(found[batch]) == sorted([*forms, *(f"{form}, CUDA graph" for form in forms)])
        for form, one in found[batch].items():
            assert one["images_per_s"] == int(batch) / one["median_s"]
            assert one["peak_memory_bytes"] == (None if "graph" in form else 2000)
