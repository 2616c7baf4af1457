"""Files of strangers: what would take more memory than it has bytes is refused before it does."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import goctconv
from goctconv import CheckpointError, load_plan, plan_pruning
from goctconv.models.hub import read_checkpoint
from goctconv.pruning import PruningError

GIGABYTE = 1 << 30


def pickled(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


def called(name: str, *arguments: bytes) -> bytes:
    """A call of a function, of arguments that are pickled."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def storage(key: str, count: int) -> bytes:
    text = b"X" + struct.pack("<I", len(key)) + key.encode()
    kind = b"X\x07\x00\x00\x00storage" + b"ctorch\nFloatStorage\n"
    return b"(" + kind + text + b"X\x03\x00\x00\x00cpu" + number(count) + b"tQ"


def tensor(count: int, *shape: int) -> bytes:
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    strides = b"(" + number(0) * len(shape) + b"t"
    return called("torch._utils _rebuild_tensor_v2", storage("0", count), number(0), sizes, strides, b"\x89", b"}")


def named(value: bytes, name: str = "a") -> bytes:
    return b"}X" + struct.pack("<I", len(name)) + name.encode() + value + b"s"


def archive(file: Path, pickle_of: bytes, numbers: int = 4, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("archive/data.pkl", pickle_of)
        made.writestr("archive/byteorder", "little")
        made.writestr("archive/data/0", bytes(4 * numbers))
        made.writestr("archive/version", "3\n")
    return file


def repeated(value: bytes, times: int) -> bytes:
    """A list of one thing, made once and named many times; each of the calls copies it."""
    long = b"]q\x01(" + b"K\x01" * 5000 + b"e0"
    return b"](" + long + (value + b"h\x01\x85R") * times + b"e"


OF_PICKLES: dict[str, bytes] = {
    "a bytearray of a gigabyte": pickled(named(called("__builtin__ bytearray", number(GIGABYTE)))),
    "a tensor of a gigabyte": pickled(named(called("torch Tensor", number(GIGABYTE)))),
    "a storage of a gigabyte": pickled(named(called("torch.storage UntypedStorage", number(GIGABYTE)))),
    "a storage that the file lacks": pickled(named(tensor(GIGABYTE // 4, 1))),
    "one number for all of a tensor": pickled(named(tensor(4, 1 << 15, 1 << 15))),
    "a text in another encoding": pickled(
        named(called("_codecs encode", b"X\x01\x00\x00\x00a", b"X\x06\x00\x00\x00utf-32"))
    ),
    "a set made again and again": pickled(named(repeated(b"c__builtin__\nset\n", 5000))),
    "an ordered dict made again and again": pickled(named(repeated(b"ccollections\nOrderedDict\n", 5000))),
    "places for objects": pickled(b"}r\xff\xff\xff\x7f"),
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\x7fa.",
}  # fmt: skip


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calls: list[object] = []
    monkeypatch.setattr(torch, "load", lambda *given, **_: calls.append(given))
    yield
    assert not calls


def refused(file: Path, message: str | None = None) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(file)
    assert str(file) in str(caught.value)


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize("content", OF_PICKLES.values(), ids=OF_PICKLES)
@pytest.mark.parametrize("form", ["zip", "legacy", "pdparams"])
def test_pickles_that_ask_for_memory(content: bytes, form: str, tmp_path: Path) -> None:
    if form == "zip":
        refused(archive(tmp_path / "a.pth", content))
    elif form == "pdparams":
        (tmp_path / "a.pdparams").write_bytes(content)
        refused(tmp_path / "a.pdparams")
    else:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        before = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
        (tmp_path / "a.pth").write_bytes(b"".join(before) + content + pickle.dumps(["0"], protocol=2) + bytes(40))
        refused(tmp_path / "a.pth")


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize("where", ["archive/data.pkl", "archive/data/0", "archive/anything"])
def test_compressed_entries(where: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as made:
        for name in {"archive/data.pkl", "archive/data/0", where}:
            made.writestr(name, bytes(100 << 20) if name == where else b"\x80\x02}.")
    refused(tmp_path / "a.pth", r"is refused: it has 0\.1 MiB, and 100\.0 MiB once unpacked: save the state dict alone")


@pytest.mark.usefixtures("nothing_is_loaded")
def test_zip_files_that_readers_take_differently(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.pth", pickled(b"}")).read_bytes()
    entry = whole[whole.index(b"PK\1\2") :]
    forms = {
        "the list of contents elsewhere": b"before" + whole,
        "another end in the comment": whole[:-2] + struct.pack("<H", 22) + whole[-22:],
        "no end": whole[:-22],
        "a longer list than there is": whole[:-10] + struct.pack("<I", 1 << 30) + whole[-6:],
        "every entry twice": whole[: whole.index(b"PK\1\2")]
        + entry[:-22] * 2
        + whole[-22:-10]
        + struct.pack("<II", 2 * (len(entry) - 22), whole.index(b"PK\1\2"))
        + b"\0\0",
    }
    for form in forms.values():
        (tmp_path / "a.pth").write_bytes(form)
        refused(tmp_path / "a.pth")


@pytest.mark.usefixtures("nothing_is_loaded")
def test_long_pickles(tmp_path: Path) -> None:
    refused(archive(tmp_path / "a.pth", pickled(b"](", b"]" * 2_100_000, b"e")), "more than 2,000,000 operations")
    refused(archive(tmp_path / "b.pth", pickled(b"]" + b"X" + struct.pack("<I", 17 << 20) + bytes(17 << 20))), "17 MiB")


@pytest.mark.parametrize("length", [9 << 20, 1 << 40, (1 << 64) - 1])
def test_headers_of_safetensors(length: int, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + b"{" + b" " * 100)
    refused(tmp_path / "a.safetensors", f"its header is to have {length:,} bytes, of at most 8 MiB")


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_training_saves_is_still_read(is_zip: bool, tmp_path: Path) -> None:
    model = goctconv.create_model("test_csnet").half()
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    tied = {"one": model.classifier.weight, "two": model.classifier.weight.flip(0), "few": torch.ones(1).expand(7, 100)}
    kinds = (torch.bool, torch.bfloat16, torch.complex64, torch.int8, torch.float64)
    more = {str(kind): torch.ones(3, 2).to(kind) for kind in kinds} | {"none": torch.zeros(0, 3)}
    content = {
        "state_dict": {**model.state_dict(), **tied, **more, "parameter": nn.Parameter(torch.ones(2))},
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "about": (3, 0.1, {"set": {1, 2}, "device": torch.device("cpu"), "size": torch.Size([2]), "bytes": b"\xff\0"}),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    found = read_checkpoint(tmp_path / "a.pth")
    for name, value in content["state_dict"].items():
        assert torch.equal(found[name], value)


def test_what_the_user_has_allowed_is_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "options": Options()}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"asks for .*\.Options")
    with torch.serialization.safe_globals([Options]):
        assert torch.equal(read_checkpoint(tmp_path / "a.pth")["a"], torch.ones(2))


class Options:
    """What a training script keeps in its checkpoints."""

    def __init__(self) -> None:
        self.epochs = 3


def test_compressed_files_of_ordinary_tensors_are_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"a": torch.arange(1000.0)}, stream)
    with zipfile.ZipFile(stream) as given, zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as made:
        for name in given.namelist():
            made.writestr(name, given.read(name))
    assert torch.equal(read_checkpoint(tmp_path / "a.pth")["a"], torch.arange(1000.0))


def test_widths_whose_tensors_are_missing(tmp_path: Path) -> None:
    state = goctconv.create_model("test_csnet").state_dict()
    wide = {name: torch.zeros(60_000) if ".norm" in name and value.dim() else value for name, value in state.items()}
    torch.save(wide, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        goctconv.create_model("test_csnet", checkpoint_path=tmp_path / "a.pth")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    goctconv.create_model("test_csnet").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["model_args"]["channels"]["stages"][0][0].__setitem__(0, 10**9), "up to 1,000,000,000"),
        (lambda config: config["model_args"].update(depths=[1, 1, 10**6, 1, 1]), "asks for depths up to 1,000,004"),
        (lambda config: config["model_args"].update(anything=[0] * 20_000), "more than 10,000 numbers"),
        (lambda config: config.update(pretrained_cfg=7), "has int for pretrained_cfg"),
        (
            lambda config: config["pretrained_cfg"].update(first_conv=10**400),
            "has 1000.* for first_conv, expected",
        ),
        (lambda config: config["pretrained_cfg"].update(first_conv=["stem", 7]), "for first_conv, expected names"),
        (lambda config: config["pretrained_cfg"].update(classifier={}), "has {} for classifier, expected names"),
        (lambda config: config["pretrained_cfg"].update(input_size=[3, 64]), "for input_size, expected channels"),
        (
            lambda config: config["model_args"]["channels"]["stages"].__setitem__(1, [[60_000, 60_000]] * 2),
            "a network of",
        ),
        (lambda config: config.update(architecture="resnet152", model_args={}), "makes a network of 222 MiB"),
        (lambda config: config.update(architecture=7), "names no"),
        (lambda config: config.update(model_args=[1]), "has list for model_args"),
    ],
)
def test_configurations_that_ask_for_memory(change: Callable[[Any], None], message: str, saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    change(config)
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        goctconv.create_model(f"local-dir:{saved}")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", " " * (2 << 20), "\xff", "[]", '{"architecture": "' + "a" * 20])
def test_configurations_that_are_none(text: str, saved: Path) -> None:
    (saved / "config.json").write_text(text, encoding="latin1")
    with pytest.raises(CheckpointError, match="no configuration of a network"):
        goctconv.create_model(f"local-dir:{saved}")


def test_weights_in_folders_are_checked_before_timm_loads_them(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    archive(saved / "pytorch_model.bin", OF_PICKLES["a bytearray of a gigabyte"])
    with pytest.raises(CheckpointError, match=r"asks for builtins\.bytearray"):
        goctconv.create_model(f"local-dir:{saved}")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 3))


def plan_of(model: nn.Module) -> dict[str, Any]:
    return plan_pruning(model, torch.zeros(1, 3, 16, 16), ratio=0.5).to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan["steps"][0]["biases"].update({"0.other": 10**7}), "more than its layer has"),
        (lambda plan: plan["steps"][0]["biases"].update({"0.other": 10**12}), "no number of channels"),
        (lambda plan: plan["steps"][0]["rows"]["0.weight"].update({"0": [0] * 100_000}), "not in their order"),
        (lambda plan: plan["steps"][0]["rows"]["0.weight"].update({"7": [0]}), "with|fit the model"),
        (lambda plan: plan["steps"][0]["attributes"].update({"2": {"scale_factor": 10**6}}), "sets 2.scale_factor to"),
        (lambda plan: plan["steps"][0]["attributes"].update({"0": {"padding": [10**6] * 2}}), "sets 0.padding to"),
        (lambda plan: plan["steps"][0]["attributes"].update({"0": {"forward": 1}}), "sets 0.forward to"),
        (lambda plan: plan["report"]["layers"]["1"].update(channels=10**12), "no number of channels"),
        (lambda plan: plan["weights"].update({"1": [10**400]}), "damaged"),
        (lambda plan: plan.update(steps={"a": 1}), "damaged"),
    ],
)
def test_plans_that_ask_for_memory(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    plan = plan_of(network())
    change(plan)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(PruningError, match=message):
        load_plan(tmp_path / "plan.json").apply(network())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, " " * (33 << 20)], ids=["lists", "dicts", "long"])
def test_plans_that_are_deep_or_long(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PruningError, match=r"nested too deeply|more than 32 MiB"):
        load_plan(tmp_path / "plan.json")


def test_reasons_are_not_patterns(tmp_path: Path) -> None:
    plan = plan_of(network())
    reason = {"kind": "{layer:>1000000000}", "layer": "a", "by": "b", "channels": [0]}
    plan["report"]["layers"]["1"]["held"] = [reason]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert len(str(load_plan(tmp_path / "plan.json").report)) < 10_000
