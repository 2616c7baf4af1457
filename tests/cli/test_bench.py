import importlib.util
import json

import pytest

import goctconv
from goctconv.cli import _bench_run, main
from goctconv.cli._bench_run import LEGEND, model_lines
from goctconv.deployment import _engines


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_figures_are_printed_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_bench_run, "_TIMES", 1)
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
def test_devices_and_channels(capsys, monkeypatch, tmp_path):
    assert main(["bench", "test_csnet", "--device", "banana"]) == 2
    assert "--device banana: this device cannot be used" in capsys.readouterr().err
    goctconv.create_model("test_csnet", in_chans=1).save_pretrained(tmp_path / "grey")
    monkeypatch.setattr(_bench_run, "_TIMES", 1)
    options = ["--size", "32", "--batch-size", "2", "--rounds", "2", "--threads", "1", "--forms", "deployed"]
    assert main(["bench", f"local-dir:{tmp_path / 'grey'}", *options]) == 0
    assert "told_to_keep_freed_memory True" in capsys.readouterr().out


def test_a_cold_start_that_fails(monkeypatch):
    monkeypatch.setattr(_bench_run, "_CODE", "raise SystemExit(3)")
    assert _bench_run.measure_cold_start("no_such_net", None, (32, 32), 1) is None


def test_cuda_figures_are_told():
    one = {"median_s": 0.002, "eager_over_this": [1.0, 2.0, 3.0], "images_per_s": 500.0}
    shared = {"model": "net", "parameters": 1, "loaded_in_s": 0.1, "cold_start": None}
    empty = {"latency": {}, "throughput": {}, "forms": {}}
    text = "\n".join(model_lines({**shared, "processor": empty, "cuda": {"1": {"eager": one}, "256": None}}, 8))
    assert "2.00 ms  2.00 (1.00-3.00)  500.0/s" in text
    assert "CUDA, 256 at a time: not enough memory" in text
