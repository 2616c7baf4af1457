"""Saving and reloading without pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from torch import Tensor, nn

import goctconv
from goctconv.models import CSNet
from reference.conditioning import calibrated
from reference.pruned import PRUNED


def image() -> Tensor:
    return torch.randn(1, 3, 65, 80, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model.eval()(image())


def pruned(**kwargs: Any) -> nn.Module:
    torch.manual_seed(1)
    channels = kwargs.get("in_chans", 3)
    return calibrated(goctconv.create_model("csnet_x2", channels=PRUNED, **kwargs), torch.randn(4, channels, 64, 64))


def test_every_door_gives_the_same_network(tmp_path: Path) -> None:
    model = pruned()
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    source = f"local-dir:{tmp_path}"
    doors = [
        goctconv.create_model(source),
        goctconv.create_model(source, pretrained=True),
        timm.create_model(source, pretrained=True),
        CSNet.from_pretrained(tmp_path),
    ]
    for other in doors:
        assert other.channels == PRUNED
        assert torch.equal(logits(other), logits(model))


def test_plain_timm_in_a_new_process(tmp_path: Path) -> None:
    model = pruned()
    model.save_pretrained(tmp_path / "net")
    torch.save((image(), logits(model)), tmp_path / "expected.pt")
    code = (
        "import torch, timm, goctconv.models\n"
        "torch.set_num_threads(1)\n"  # as the tests: the order of sums depends on it
        f"x, expected = torch.load({str(tmp_path / 'expected.pt')!r}, weights_only=True)\n"
        f"model = timm.create_model('local-dir:{tmp_path / 'net'}', pretrained=True).eval()\n"
        "with torch.no_grad():\n"
        "    assert torch.equal(model(x), expected)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_images_and_classes_travel(tmp_path: Path) -> None:
    model = pruned(in_chans=4, num_classes=3)
    model.save_pretrained(tmp_path)
    other = goctconv.create_model(f"local-dir:{tmp_path}")
    assert (other.in_chans, other.num_classes) == (4, 3)
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))


def test_changed_prediction_travels(tmp_path: Path) -> None:
    model = pruned()
    model.reset_classifier(6)
    model.save_pretrained(tmp_path)
    assert goctconv.create_model(f"local-dir:{tmp_path}").classifier.out_channels == 6


def test_ablations_travel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for index, arguments in enumerate(({"fuse_stages": (3, 4)}, {"fuse_stages": (), "simplified": False})):
        model = goctconv.create_model("csnet_x1", split=(3, 1), **arguments)
        calibrated(model, torch.randn(2, 3, 64, 64)).save_pretrained(tmp_path / str(index))
        other = goctconv.create_model(f"local-dir:{tmp_path / str(index)}")
        assert torch.equal(logits(other), logits(model))


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def test_licence_of_the_weights_is_inherited(shared: Path, tmp_path: Path) -> None:
    file = shared / "weights" / "csnet-L-x1.pth.tar"
    model = goctconv.create_model("csnet_x2", checkpoint_path=file)
    through_timm = timm.create_model("csnet_x1_l", pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    features = goctconv.create_model("csnet_x1_l", checkpoint_path=file, features_only=True).model
    for each in (model, through_timm, features):
        assert each.weights_license == "cc-by-nc-sa-4.0"
    for generation in range(2):
        folder = tmp_path / str(generation)
        model.save_pretrained(folder)
        assert config(folder)["pretrained_cfg"]["license"] == "cc-by-nc-sa-4.0"
        assert "license: cc-by-nc-sa-4.0" in (folder / "README.md").read_text()
        model = goctconv.create_model(f"local-dir:{folder}")
        assert model.weights_license == "cc-by-nc-sa-4.0"


def test_own_weights_have_the_licence_that_their_owner_names(tmp_path: Path) -> None:
    model = goctconv.create_model("csnet_x1_l")
    model.save_pretrained(tmp_path / "unnamed")
    assert config(tmp_path / "unnamed")["pretrained_cfg"].get("license") is None
    assert "not stated" in (tmp_path / "unnamed" / "README.md").read_text()
    model.save_pretrained(tmp_path / "named", license="apache-2.0")
    assert goctconv.create_model(f"local-dir:{tmp_path / 'named'}").weights_license == "apache-2.0"


def test_consent_is_not_stored(tmp_path: Path) -> None:
    model = goctconv.create_model("csnet_x1_l", accept_license="cc-by-nc-sa-4.0")
    by_timm = timm.create_model("csnet_x1_l", accept_license="cc-by-nc-sa-4.0")
    for index, each in enumerate((model, by_timm)):
        each.save_pretrained(tmp_path / str(index))
        assert "accept" not in (tmp_path / str(index) / "config.json").read_text()


def test_a_card_that_somebody_wrote_is_kept(tmp_path: Path) -> None:
    model = pruned()
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, license="mit")
    assert "license: mit" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("nowhere", [Path("no") / "such" / "folder", "gone", __file__])
def test_a_place_that_is_none(nowhere: Path | str) -> None:
    with pytest.raises(FileNotFoundError, match="neither a directory nor OWNER/NAME"):
        CSNet.from_pretrained(nowhere)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made by its class"):
        CSNet().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        CSNet.from_pretrained(tmp_path)
    features = timm.create_model("csnet_x1", features_only=True, out_indices=(0,)).model
    with pytest.raises(ValueError, match="prune_intermediate_layers"):
        features.model_args()


class FakeHub:
    """Keeps what is uploaded."""

    uploads: dict[str, dict[str, bytes]]
    private: dict[str, bool]

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        assert exist_ok
        FakeHub.uploads.setdefault(repo_id, {})
        FakeHub.private[repo_id] = private
        return type("Repo", (), {"repo_id": repo_id})

    def file_exists(self, repo_id: str, name: str) -> bool:
        return name in FakeHub.uploads[repo_id]

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert commit_message
        FakeHub.uploads[repo_id].update({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})


def test_push_to_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(FakeHub, "uploads", {}, raising=False)
    monkeypatch.setattr(FakeHub, "private", {}, raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    model = pruned()
    assert model.push_to_hub("me/net", license="mit") == "hf-hub:me/net"
    model.push_to_hub("me/secret", private=True)
    assert FakeHub.private == {"me/net": False, "me/secret": True}
    files = FakeHub.uploads["me/net"]
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    files["README.md"] = b"mine"
    model.push_to_hub("me/net")
    assert files["README.md"] == b"mine"
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert torch.equal(logits(goctconv.create_model(f"local-dir:{tmp_path}")), logits(model))
