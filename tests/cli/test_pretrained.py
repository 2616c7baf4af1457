"""Weights of others, from a stand-in for the authors' server."""

import hashlib
from functools import partial

import pytest
import torch

from goctconv import models
from goctconv.cli import main
from goctconv.models.hub import _registry
from goctconv.saliency import calibrate_batch_norm


@pytest.fixture
def arguments(tmp_path, monkeypatch, photographs):
    """Of a ``predict`` whose weights come from a file:// address, to which consent is needed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)
    model = models.create_model("csnet_x2_l")
    calibrate_batch_norm(model, [torch.randn(4, 3, 64, 64)])
    file = tmp_path / "released.pth.tar"
    torch.save(model.state_dict(), file)
    monkeypatch.setattr(_registry, "RELEASED_SHA256", {file.as_uri(): hashlib.sha256(file.read_bytes()).hexdigest()})
    redirected = partial(models.create_model, pretrained_cfg_overlay={"url": file.as_uri()})
    monkeypatch.setattr(models, "create_model", redirected)
    return [
        "predict",
        str(photographs),
        "-o",
        str(tmp_path / "maps"),
        "--size",
        "32",
        "--pretrained",
        "--model",
        "csnet_x2_l",
    ]


def test_consent_on_the_command_line(arguments, tmp_path, files):
    assert main([*arguments, "--accept-license", "cc-by-nc-sa-4.0"]) == 0
    assert files(tmp_path / "maps") == ["a.png", "b.png", "sub/a.png"]


@pytest.mark.parametrize("consent", [[], ["--accept-license", "mit"]])
def test_without_consent(arguments, consent, tmp_path, capsys):
    assert main([*arguments, *consent]) == 2
    said = capsys.readouterr().err
    assert "add --accept-license cc-by-nc-sa-4.0" in said
    assert ("(not mit)" in said) == bool(consent)
    assert not (tmp_path / "cache").exists()
