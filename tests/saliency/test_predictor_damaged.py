import pytest

from goctconv.saliency import Predictor


@pytest.mark.parametrize(("name", "package"), [("net.onnx", "onnxruntime"), ("net.xml", "openvino")])
def test_a_damaged_file_is_named(tmp_path, name, package):
    pytest.importorskip(package)
    file = tmp_path / name
    file.write_text("no network", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} cannot be loaded by \w+: export it again"):
        Predictor(file)
