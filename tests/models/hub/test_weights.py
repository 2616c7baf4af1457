"""Loading weights: every layout, every way in, every mistake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

import goctconv
from goctconv import CheckpointError, LicenseError
from goctconv.models.csnet._checkpoint import LAYOUT
from goctconv.models.hub import _registry, read_checkpoint
from reference.conditioning import calibrated
from reference.pruned import PRUNED


def image(height: int = 65, width: int = 80) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))


def logits(model: torch.nn.Module, x: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model.eval()(image() if x is None else x)


def pruned(**kwargs: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    return calibrated(goctconv.create_model("csnet_x1", channels=PRUNED, **kwargs), torch.randn(4, 3, 64, 64))


def in_published_layout(model: torch.nn.Module) -> dict[str, Tensor]:
    """The inverse of `LAYOUT.converted`: our tensors under the authors' names."""
    state = model.state_dict()
    published: dict[str, Tensor] = {}
    for place in LAYOUT.places(model, {}):
        whole = published.setdefault(place.key, torch.full(place.shape, float("nan")).to(state[place.name].dtype))
        whole[place.block or ...] = state[place.name]
    return published


def saved(state: dict[str, Tensor], path: Path, *, form: str) -> Path:
    if form == "safetensors":
        file = path / "weights.safetensors"
        safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, file)
        return file
    file = path / "weights.pth.tar"
    content = {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state, "best": 0.1},
        "data_parallel": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "compiled_data_parallel": {f"module._orig_mod.{key}": value for key, value in state.items()},
        "averaged": {"state_dict": {}, "state_dict_ema": state},
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
    }[form]
    torch.save(content, file)
    return file


@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
@pytest.mark.parametrize(
    "form", ["plain", "state_dict", "data_parallel", "compiled", "compiled_data_parallel", "averaged", "safetensors"]
)
def test_any_pruned_checkpoint_loads_with_its_own_widths(
    layout: Callable[[torch.nn.Module], dict[str, Tensor]], form: str, tmp_path: Path
) -> None:
    model = pruned()
    file = saved(layout(model), tmp_path, form=form)
    loaded = goctconv.create_model("csnet_x2", checkpoint_path=file)
    assert loaded.channels == PRUNED
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)


@pytest.mark.parametrize("fuse_stages", [(), (4,), (3, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
def test_fused_stages_are_read_from_the_tensors(
    layout: Callable[[torch.nn.Module], dict[str, Tensor]], fuse_stages: tuple[int, ...]
) -> None:
    model = goctconv.create_model("csnet_x1", fuse_stages=fuse_stages, split=(3, 1))
    assert LAYOUT.widths(layout(model)) == {"channels": model.channels, "fuse_stages": fuse_stages}


def test_other_choices_of_stages_must_be_named(tmp_path: Path) -> None:
    model = goctconv.create_model("csnet_x1", fuse_stages=(2, 4))
    file = saved(model.state_dict(), tmp_path, form="plain")
    with pytest.raises(CheckpointError, match="does not fit"):
        goctconv.create_model("csnet_x1", checkpoint_path=file)
    assert goctconv.create_model("csnet_x1", checkpoint_path=file, fuse_stages=(2, 4)).fuse_stages == (2, 4)


def test_counters_may_be_absent(tmp_path: Path) -> None:
    model = pruned()
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    loaded = goctconv.create_model("csnet_x1", checkpoint_path=saved(state, tmp_path, form="plain"))
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)


def test_mapping_covers_every_tensor_once() -> None:
    model = pruned()
    names = [place.name for place in LAYOUT.places(model, {})]
    assert sorted(names) == sorted(model.state_dict())
    assert not any(torch.isnan(tensor).any() for tensor in in_published_layout(model).values())


def test_released_file_through_every_door(shared: Path) -> None:
    file = shared / "weights" / "csnet-L-x1.pth.tar"
    ours = goctconv.create_model("csnet_x1_l", checkpoint_path=file)
    through_timm = timm.create_model("csnet_x1_l", pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    by_shape = goctconv.create_model("csnet_x2", checkpoint_path=str(file))
    assert by_shape.channels == ours.channels == goctconv.create_model("csnet_x1_l").channels
    for other in (through_timm, by_shape):
        torch.testing.assert_close(logits(other), logits(ours), rtol=0, atol=0)
    assert "state_dict" not in through_timm.pretrained_cfg


def test_recorded_pruned_network_loads_with_its_widths(shared: Path) -> None:
    with np.load(shared / "reference" / "prune_csnet.npz") as arrays:
        state = {k.removeprefix("full/"): torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith("full/")}
        x, expected = torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["logits_full"])
    model = goctconv.create_model("csnet_x1").double()
    model.load_state_dict(LAYOUT.converted(state, model))
    assert LAYOUT.widths(state) == {"channels": model.channels, "fuse_stages": (2, 3, 4)}
    torch.testing.assert_close(logits(model, x), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
def test_every_mismatch_is_listed(layout: Callable[[torch.nn.Module], dict[str, Tensor]], tmp_path: Path) -> None:
    state = layout(goctconv.create_model("csnet_x1_l"))
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    gone, bent = names[5], names[11]
    del state[gone]
    state[bent] = torch.zeros(1, 2, 3)
    state["surplus.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError) as caught:
        goctconv.create_model("csnet_x1_l", checkpoint_path=saved(state, tmp_path, form="plain"))
    message = str(caught.value)
    assert "weights.pth.tar" in message
    assert f"1 missing: {gone}" in message
    assert "1 unexpected: surplus.weight" in message
    assert f"1 of the wrong shape: {bent} (1, 2, 3) instead of" in message


def test_explicit_widths_are_not_overridden(tmp_path: Path) -> None:
    file = saved(pruned().state_dict(), tmp_path, form="plain")
    with pytest.raises(CheckpointError, match=r"of the wrong shape"):
        goctconv.create_model("csnet_x1", checkpoint_path=file, split=(5, 5))


def test_other_number_of_classes_is_an_error(tmp_path: Path) -> None:
    file = saved(pruned().state_dict(), tmp_path, form="plain")
    with pytest.raises(CheckpointError, match=r"classifier.weight \(1, 9, 1, 1\) instead of \(4, 9, 1, 1\)"):
        goctconv.create_model("csnet_x1", checkpoint_path=file, num_classes=4)


def test_format_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    model = pruned()
    for form, wrong in (("safetensors", "weights.pth"), ("plain", "other.safetensors")):
        file = saved(model.state_dict(), tmp_path, form=form).rename(tmp_path / wrong)
        loaded = goctconv.create_model("csnet_x1", checkpoint_path=file)
        torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)


@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
def test_timm_lists_every_mismatch_too(layout: Callable[[torch.nn.Module], dict[str, Tensor]], tmp_path: Path) -> None:
    state = layout(goctconv.create_model("test_csnet"))
    gone = next(iter(state))
    del state[gone]
    state["surplus.weight"] = torch.zeros(2)
    file = saved(state, tmp_path, form="plain")
    with pytest.raises(CheckpointError, match=f"1 missing: {gone}; 1 unexpected: surplus.weight"):
        timm.create_model("test_csnet", pretrained=True, pretrained_cfg_overlay={"file": str(file)})


def test_timm_adapts_image_channels_and_classes(tmp_path: Path) -> None:
    model = goctconv.create_model("test_csnet")
    for state in (model.state_dict(), in_published_layout(model)):
        file = saved(state, tmp_path, form="plain")
        other = timm.create_model(
            "test_csnet", pretrained=True, pretrained_cfg_overlay={"file": str(file)}, in_chans=1, num_classes=2
        )
        first = "stages.0.0.conv1.paths.0_to_1"
        expected = model.get_submodule(first).weight.sum(1, keepdim=True)
        torch.testing.assert_close(other.get_submodule(first).weight, expected)
        assert other.classifier.out_channels == 2
        assert torch.equal(other.head.fuse.paths["0_to_0"].weight, model.head.fuse.paths["0_to_0"].weight)


class Payload:
    """What an attacker would pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemError('ran')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"not a checkpoint at all", "no file of torch.save"),
        ({"state_dict": {}}, "holds an empty dict, expected a state dict"),
        ({"net": {"a": torch.zeros(1)}}, "under state_dict_ema, model_ema, state_dict, model; no tensors: net"),
        ([1, 2], "holds a list"),
        ({"stages": torch.zeros(1), "epoch": 3}, "no tensors: epoch"),
        (Payload(), r"asks for builtins\.exec.*pickled code"),
    ],
)
def test_files_that_are_no_checkpoints(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=message) as caught:
        goctconv.create_model("csnet_x1", checkpoint_path=file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_truncated_file(name: str, tmp_path: Path) -> None:
    form = "safetensors" if name.endswith("safetensors") else "plain"
    whole = saved(pruned().state_dict(), tmp_path, form=form).read_bytes()
    file = tmp_path / name
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"truncated|damaged"):
        goctconv.create_model("csnet_x1", checkpoint_path=file)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_file_is_always_one_clear_error(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(pruned().state_dict(), file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, 4096, size=20):  # where the pickled structure lies
            damaged[place] = random.integers(256)
        file.write_bytes(damaged)
        try:
            read_checkpoint(file)
        except CheckpointError as error:
            assert str(file) in str(error)  # noqa: PT017  # a damaged byte may also do no harm


def test_foreign_networks_are_read_as_safely(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(Payload(), file)
    with pytest.raises(CheckpointError, match="pickled code"):
        goctconv.create_model("test_resnet", checkpoint_path=file)
    model = timm.create_model("test_resnet")
    torch.save({"state_dict": model.state_dict()}, file)
    other = goctconv.create_model("test_resnet", checkpoint_path=file)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        goctconv.create_model("csnet_x1", checkpoint_path=tmp_path / "nowhere.pth")


@pytest.fixture
def released_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A stand-in for the authors' server: their address table points to a file made here."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)
    model = calibrated(goctconv.create_model("csnet_x1_l"), torch.randn(4, 3, 64, 64))
    file = saved(in_published_layout(model), tmp_path, form="state_dict")

    def publish(digest: str | None = None) -> str:
        url = file.as_uri()
        monkeypatch.setattr(
            _registry, "RELEASED_SHA256", {url: digest or hashlib.sha256(file.read_bytes()).hexdigest()}
        )
        return url

    return publish


def create_released(url: str, **kwargs: Any) -> torch.nn.Module:
    return goctconv.create_model("csnet_x1_l.duts", pretrained=True, pretrained_cfg_overlay={"url": url}, **kwargs)


def test_released_weights_need_consent(released_here: Callable[..., str]) -> None:
    url = released_here()
    with pytest.raises(LicenseError, match=r"CC-BY-NC-SA-4\.0.*accept_license='cc-by-nc-sa-4\.0'.*GOCTCONV_ACCEPT"):
        create_released(url)
    with pytest.raises(LicenseError, match="got accept_license='mit'"):
        create_released(url, accept_license="mit")


@pytest.mark.usefixtures("recwarn")
def test_consent_by_argument_or_environment_and_stored_nowhere(
    released_here: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = released_here()
    model = create_released(url, accept_license="CC-BY-NC-SA-4.0")
    through_timm = timm.create_model(
        "csnet_x1_l.duts", pretrained=True, pretrained_cfg_overlay={"url": url}, accept_license="cc-by-nc-sa-4.0"
    )
    monkeypatch.setenv("GOCTCONV_ACCEPT_LICENSES", "mit, cc-by-nc-sa-4.0")
    by_environment = create_released(url)
    for other in (through_timm, by_environment):
        torch.testing.assert_close(logits(other), logits(model), rtol=0, atol=0)
    for each in (model, through_timm, by_environment):
        assert "accept_license" not in str(vars(each))
        assert str(tmp_path / "cache") not in str(each.pretrained_cfg)


def test_wrong_contents_are_refused_and_not_kept(released_here: Callable[..., str], tmp_path: Path) -> None:
    url = released_here("0" * 64)
    with pytest.raises(CheckpointError, match="not the expected file"):
        create_released(url, accept_license="cc-by-nc-sa-4.0")
    assert list((tmp_path / "cache").rglob("*.tar")) == []


def test_damaged_cache_is_named(released_here: Callable[..., str], tmp_path: Path) -> None:
    url = released_here()
    create_released(url, accept_license="cc-by-nc-sa-4.0")
    (cached,) = (tmp_path / "cache").rglob("*.tar")
    cached.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"has the sha256 .* delete it"):
        create_released(url, accept_license="cc-by-nc-sa-4.0")


def test_unreachable_address(
    released_here: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released_here()
    url = (tmp_path / "gone.pth.tar").as_uri()
    monkeypatch.setattr(_registry, "RELEASED_SHA256", {url: "0" * 64})
    with pytest.raises(ConnectionError, match="fetch the file by other means"):
        create_released(url, accept_license="cc-by-nc-sa-4.0")


def test_published_digests() -> None:
    digests = {Path(url).name: digest[:8] for url, digest in _registry.RELEASED_SHA256.items()}
    assert digests == {"csnet-L-x1.pth.tar": "581f02da", "csnet-L-x2.pth.tar": "8d72d13a"}
    configured = {timm.get_pretrained_cfg(name).url for name in ("csnet_x1_l.duts", "csnet_x2_l")}
    assert configured == set(_registry.RELEASED_SHA256)


def test_released_digest_is_that_of_the_file(shared: Path) -> None:
    digest = hashlib.sha256((shared / "weights" / "csnet-L-x1.pth.tar").read_bytes()).hexdigest()
    assert digest == _registry.RELEASED_SHA256[timm.get_pretrained_cfg("csnet_x1_l.duts").url]


def test_complex_numbers_are_refused(tmp_path):
    state = goctconv.create_model("test_csnet").state_dict()
    name = next(iter(state))
    torch.save({**state, name: state[name].to(torch.complex64)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"nothing was loaded; tensors: 1 of complex numbers: {name}"):
        goctconv.create_model("test_csnet", checkpoint_path=tmp_path / "a.pth")
