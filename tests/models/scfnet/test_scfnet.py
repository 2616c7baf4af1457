"""SCFNet: the recorded decoder, exact counts, PaddlePaddle's layout and files, pruning, any backbone."""

from __future__ import annotations

import copy
import functools
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import goctconv
from goctconv import CheckpointError, prune_channels
from goctconv.deployment import deploy, export_onnx
from goctconv.models import SCFNet, UnknownModelError, count_macs, create_model, load_pruned, save_pruned
from goctconv.models.hub._pdparams import read_pdparams
from goctconv.models.scfnet._checkpoint import LAYOUT
from goctconv.models.scfnet._model import SCFNetHead
from reference.compare import assert_equal

TINY = {"backbone": "test_efficientnet", "width": 8}
THEIRS = {"running_mean": "_mean", "running_var": "_variance"}


def image(batch: int = 2, height: int = 65, width: int = 97, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def logits(model: nn.Module, x: Tensor | None = None) -> Tensor:
    return model.eval()(image() if x is None else x)


@torch.no_grad()
def several(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    return model.eval().forward_multi(x)


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_recorded_decoder(shared: Path, dtype: torch.dtype) -> None:
    with np.load(shared / "reference" / "scfnet.npz") as arrays:
        state = {k.removeprefix("weights/"): torch.from_numpy(arrays[k]) for k in arrays.files if k[:8] == "weights/"}
        features = tuple(torch.from_numpy(arrays[f"in{level}"]).to(dtype) for level in range(4))
        expected = [arrays[f"logits{level}"] for level in range(4)]
    holder = nn.Module()
    holder.head = SCFNetHead((16, 24, 56, 80), 16)
    holder.classifier = nn.Conv2d(16, 1, 3, padding=1)
    holder.side_classifiers = nn.ModuleList(nn.Conv2d(16, 1, 3, padding=1) for _ in range(3))
    holder.load_state_dict(LAYOUT.converted(state, holder))
    holder.eval().to(dtype)
    with torch.no_grad():
        maps = holder.head(features)
        found = [layer(x) for layer, x in zip([holder.classifier, *holder.side_classifiers], maps, strict=True)]
    for mine, theirs in zip(found, expected, strict=True):
        assert_equal(F.interpolate(mine, (256, 256), mode="bilinear", align_corners=False), theirs, 1e-5)


VARIANTS = ("scfnet_mobilenetv3_050", "scfnet_resnet50", "scfnet_swin_base")


@functools.cache
def hollow(name: str) -> SCFNet:
    with torch.device("meta"):
        return goctconv.create_model(name).eval()


def test_published_counts() -> None:
    student, resnet, swin = map(hollow, VARIANTS)
    assert [parameters(model) for model in (student, resnet, swin)] == [788_298, 26_093_508, 88_222_780]
    decoders = [parameters(model.head, model.classifier, model.side_classifiers) for model in (student, resnet)]
    assert decoders == [49_636, 2_585_476]
    assert parameters(student.backbone) == 738_662
    held = [tensor for key, tensor in student.state_dict().items() if not key.endswith("num_batches_tracked")]
    assert sum(tensor.numel() for tensor in held) == 800_154
    assert student.widths == (16, 24, 56, 80)


@pytest.mark.parametrize(("name", "published"), list(zip(VARIANTS, (0.25, 13.15), strict=False)))
def test_published_operations_are_met_at_352(name: str, published: float) -> None:
    """Convolutions with their biases, and 2 for each element that enters a BatchNorm."""
    model = copy.deepcopy(hollow(name))
    more: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.register_forward_hook(lambda _, __, output: more.append(output.numel()))
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, inputs, __: more.append(2 * inputs[0].numel()))
    with torch.no_grad():
        model(torch.empty(1, 3, 352, 352, device="meta"))
    assert round((count_macs(hollow(name), 352) + sum(more)) / 1e9, 2) == published


@pytest.mark.slow
def test_operations_of_swin() -> None:
    assert count_macs(hollow("scfnet_swin_base"), 352) == 46_954_863_424  # published are 46.74 G


def test_mobilenet_of_paddle() -> None:
    net = timm.create_model("paddle_mobilenetv3_large_050", features_only=True, in_chans=1)
    assert [tuple(f.shape[1:]) for f in net(torch.rand(1, 1, 64, 64))] == [
        (8, 32, 32),
        (16, 16, 16),
        (24, 8, 8),
        (56, 4, 4),
        (80, 2, 2),
    ]
    gate = net.blocks[2][0].se.gate
    assert_close(gate(torch.tensor([-3.0, 0.0, 1.0, 3.0])), torch.tensor([0.0, 0.5, 0.7, 1.0]))
    whole = timm.create_model("paddle_mobilenetv3_large_050", num_classes=5)
    assert whole(torch.rand(1, 3, 64, 64)).shape == (1, 5)


def test_all_outputs() -> None:
    model = goctconv.create_model("test_scfnet")
    found = several(model, image())
    assert [tuple(one.shape) for one in found] == [(2, 1, 65, 97)] * 4
    assert torch.equal(found[0], logits(model))
    model.reset_classifier(3)
    assert [tuple(one.shape) for one in several(model, image())] == [(2, 3, 65, 97)] * 4
    model.reset_classifier(0)
    assert len(several(model, image())) == 1


def in_published_layout(model: SCFNet, prefix: str = "bkbone.") -> dict[str, Tensor]:
    """Our tensors under the authors' names; those of the backbone under timm's, which are the original's too."""
    names: dict[str, str] = {}
    for place in LAYOUT.places(model, {}):
        names[place.name] = place.key
    for key in model.state_dict():
        if key.startswith("backbone."):
            before, _, last = key.removeprefix("backbone.").rpartition(".")
            names[key] = f"{prefix}{before}.{THEIRS.get(last, last)}"
    return {names[key]: tensor for key, tensor in model.state_dict().items() if "num_batches_tracked" not in key}


def as_pdparams(state: dict[str, Tensor], *, protocol: int = 4, paired: bool = False) -> bytes:
    arrays: dict[str, Any] = {}
    for number, (key, tensor) in enumerate(state.items()):
        arrays[key] = (f"param_{number}", tensor.numpy()) if paired else tensor.numpy()
    arrays["StructuredToParameterName@@"] = {key: f"param_{number}" for number, key in enumerate(state)}
    return pickle.dumps(arrays, protocol=protocol)


@pytest.mark.parametrize(("protocol", "paired"), [(2, False), (4, False), (4, True), (5, True)])
def test_weights_of_paddle(protocol: int, paired: bool, tmp_path: Path) -> None:
    source = create_model("scfnet", backbone="test_resnet", width=6)
    state = in_published_layout(source)
    assert LAYOUT.matches(state)
    assert not LAYOUT.matches(source.state_dict())
    state["bkbone.fc.weight"] = torch.zeros(3, 4)  # the backbone's classifier
    (tmp_path / "net.pdparams").write_bytes(as_pdparams(state, protocol=protocol, paired=paired))
    other = create_model("scfnet", backbone="test_resnet", checkpoint_path=tmp_path / "net.pdparams")
    assert other.width == 6
    assert torch.equal(logits(other), logits(source))
    assert other.weights_license is None


def test_backbones_of_other_names_are_taken_in_their_order(tmp_path: Path) -> None:
    options = {"depths": (1, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 1, 2, 2), "img_size": 64}
    source = create_model(
        "scfnet", backbone="swin_base_patch4_window7_224", width=6, final_norm=True, backbone_args=options
    )
    linear = {f"{name}.weight" for name, module in source.named_modules() if isinstance(module, nn.Linear)}
    state: dict[str, Tensor] = {}
    for number, (key, tensor) in enumerate(source.state_dict().items()):
        if key.startswith(("backbone.", "final_norm.")):
            state[f"encoder.layer{number}.{key.rpartition('.')[2]}"] = tensor.t() if key in linear else tensor
    head = {k: v for k, v in in_published_layout(source).items() if not k.startswith(("bkbone.", "final_norm."))}
    torch.save({**state, **head}, tmp_path / "swin.pth")
    other = create_model(
        "scfnet",
        backbone="swin_base_patch4_window7_224",
        final_norm=True,
        backbone_args=options,
        checkpoint_path=tmp_path / "swin.pth",
    )
    for key, tensor in source.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = in_published_layout(create_model("scfnet", backbone="test_resnet", width=6))
    del state["linear3.bias"]
    state["de2.cv1.0.weight"] = torch.zeros(6, 5, 3, 3)
    state["linear9.weight"] = torch.zeros(1)
    (tmp_path / "net.pdparams").write_bytes(as_pdparams(state))
    with pytest.raises(CheckpointError) as caught:
        create_model("scfnet", backbone="test_resnet", checkpoint_path=tmp_path / "net.pdparams")
    assert caught.value.problems == {
        "missing": ["linear3.bias"],
        "unexpected": ["linear9.weight"],
        "of the wrong shape": ["de2.cv1.0.weight (6, 5, 3, 3) instead of (6, 6, 3, 3)"],
    }


class Evil:
    """Unpickled as the call of a function."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (lambda file: {"a": Evil(os.system, f"touch {file}")}, r"asks for (posix|nt)\.system"),
        (lambda file: {"a": Evil(eval, f"open({str(file)!r}, 'w')")}, r"asks for (builtins|__builtin__)\.eval"),
        (lambda file: {"a": Evil(np.save, file, 1)}, r"asks for numpy\.save"),
        (lambda file: {"a": Evil(getattr, file, "touch")}, r"asks for (builtins|__builtin__)\.getattr"),
        (lambda _: {"a": torch.zeros(1)}, r"asks for torch\._utils\._rebuild_tensor_v2"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_file_is_refused_and_named(content: Any, asked: str, protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "executed"
    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps(content(file), protocol=protocol))
    with pytest.raises(CheckpointError, match=asked):
        create_model("scfnet", backbone="test_resnet", checkpoint_path=tmp_path / "evil.pdparams")
    assert not file.exists()


class State:
    """Unpickled as a call that is followed by a state of any kind."""

    def __init__(self, call: Any, arguments: tuple[Any, ...], state: Any) -> None:
        self.reduced = call, arguments, state

    def __reduce__(self) -> Any:
        return self.reduced


ADDRESS = b"\x10" + bytes(7)  # where no object is: numpy's own types would take it for one, and the process would end


START = np.zeros(1).__reduce__()[0]
FIELDS = (3, "<", None, ("a",), {"a": (np.dtype("f4"), 0)}, 8, 1, 0)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(list, Evil(np.ndarray, (1,), "O", ADDRESS)), "'str' object is not callable|must be callable"),
        (Evil(np.dtype, "O8", False, True), "data of the type 'O8', expected numbers"),
        (Evil(np.dtype, "O"), "data of the type 'O', expected numbers"),
        (State(np.dtype, ("i8", False, True), FIELDS), r"data with the fields \('a',\), expected numbers"),
        (
            State(START, (np.ndarray, (0,), b"b"), (1, (1,), "O", False, ADDRESS)),
            "something else",
        ),
    ],
    ids=["list", "object with a layout", "object", "fields", "array"],
)
def test_bytes_are_never_taken_for_objects(content: object, message: str, protocol: int, tmp_path: Path) -> None:
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps({"a": content}, protocol=protocol))
    with pytest.raises(CheckpointError, match=message):
        read_pdparams(tmp_path / "net.pdparams")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_of_all_kinds_are_read(protocol: int, tmp_path: Path) -> None:
    numbers = np.arange(12).reshape(3, 4)
    arrays = {kind: numbers.astype(kind) for kind in ("?", "u1", "i8", "<f2", ">f4", "f8", "c8")}
    arrays |= {"turned": numbers.T.astype("f4"), "empty": np.zeros((0, 3), "f4"), "one": np.array(2.5)}
    step = {"LR": {"last": np.float32(3), "epoch": 4}}
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(arrays, protocol=protocol))
    found = read_pdparams(tmp_path / "net.pdparams")
    for name, array in arrays.items():
        assert_close(found[name], torch.from_numpy(array.astype(array.dtype.newbyteorder("="))), rtol=0, atol=0)
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(arrays | step, protocol=protocol))
    with pytest.raises(CheckpointError, match="holds LR: no array of numbers"):
        read_pdparams(tmp_path / "net.pdparams")


def test_persistent_objects_are_refused(tmp_path: Path) -> None:
    class Outside(pickle.Pickler):
        def persistent_id(self, thing: object) -> object:
            return ("storage", 1) if isinstance(thing, complex) else None

    stream = io.BytesIO()
    Outside(stream).dump({"a": 1j})
    (tmp_path / "net.pdparams").write_bytes(stream.getvalue())
    with pytest.raises(CheckpointError, match=r"outside object \('storage', 1\)"):
        create_model("scfnet", backbone="test_resnet", checkpoint_path=tmp_path / "net.pdparams")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (pickle.dumps({"a": np.zeros(1000)})[:-9], "truncated"),
        (pickle.dumps([1]), "holds a list, expected a dict"),
        (pickle.dumps({}), "holds nothing"),
        (pickle.dumps({"a": "text", "b": np.zeros(1), "c": [1]}), "holds a, c: no array of numbers"),
        (pickle.dumps({"a": np.array([{}], dtype=object)}), "data of the type 'O8', expected numbers"),
        (pickle.dumps({"a": np.zeros(1, [("b", "f4")])}), "data of the type 'V4', expected numbers"),
    ],
)
def test_damaged_files_of_paddle(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.pdparams").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        create_model("scfnet", backbone="test_resnet", checkpoint_path=tmp_path / "net.pdparams")


@pytest.mark.parametrize("ours", [True, False])
def test_timm_adapts_image_and_prediction(ours: bool, tmp_path: Path) -> None:
    source = create_model("scfnet", backbone="test_resnet", width=6)
    torch.save(source.state_dict() if ours else in_published_layout(source), tmp_path / "weights.pth")
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}, "width": 6}
    same = timm.create_model("scfnet", backbone="test_resnet", **options)
    assert torch.equal(logits(same), logits(source))
    grey = timm.create_model("scfnet", backbone="test_resnet", **options, in_chans=1, num_classes=4)
    with torch.no_grad():
        expected = source.eval().forward_features(image(channels=1).expand(-1, 3, -1, -1))
        assert_close(grey.eval().forward_features(image(channels=1)), expected, rtol=1e-4, atol=1e-4)
    assert logits(grey, image(channels=1)).shape == (2, 4, 65, 97)


def drawn() -> SCFNet:
    """A network whose scales and shifts are drawn at random, so that there is something to choose from."""
    torch.manual_seed(4)
    model = goctconv.create_model("test_scfnet")
    model.train()(image(4, 64, 64))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval().double()


def test_pruning_keeps_every_output_and_travels_with_its_plan(tmp_path: Path) -> None:
    model = drawn()
    result = prune_channels(model, image(2, 64, 64).double(), ratio=0.4)
    slim, x = result.model, image(2, 67, 83).double()
    assert result.report.removed > 100
    assert slim.num_features < model.num_features
    assert slim.widths < model.widths
    for mine, masked in zip(several(slim, x), several(result.plan.mask(model), x), strict=True):
        assert_close(mine, masked, rtol=0, atol=1e-12)
    slim.float()
    with pytest.raises(ValueError, match=r"backbone of this SCFNet is pruned.*save_pruned"):
        slim.save_pretrained(tmp_path)
    save_pruned(slim, tmp_path, result.plan)
    for other in (load_pruned(tmp_path), goctconv.create_model(f"local-dir:{tmp_path}")):
        assert torch.equal(logits(other), logits(slim))


@pytest.mark.parametrize(
    "backbone",
    ["test_convnext", "test_vit", "test_resnet", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)],
)
def test_any_backbone_is_saved_and_reloaded(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("scfnet", backbone=backbone, width=5, in_chans=2, num_classes=3)
    assert several(model, image(1, 33, 50, 2))[3].shape == (1, 3, 33, 50)
    model.save_pretrained(tmp_path)
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert torch.equal(logits(other, image(channels=2)), logits(model, image(channels=2)))


@pytest.mark.parametrize("levels", [(2, 3, 4), (0, 1, 2, 3, 4), (1, 3), (-1,)])
def test_any_levels(levels: tuple[int, ...]) -> None:
    model = create_model("scfnet", backbone="test_resnet", width=4, levels=levels)
    count = len(levels) if len(levels) > 1 else 4  # a lone feature gets a pyramid of four
    assert [tuple(one.shape) for one in several(model, image())] == [(2, 1, 65, 97)] * count


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_registered_variants(name: str) -> None:
    model = goctconv.create_model(name)
    assert [tuple(one.shape) for one in several(model, image(1))] == [(1, 1, 65, 97)] * 4


def test_deployed_is_the_same_network() -> None:
    model = drawn().float()
    deployed = deploy(model)
    for x in (image(2, 64, 64), image(1, 65, 97)):
        assert_close(deployed(x), logits(model, x), rtol=0, atol=1e-4 * float(logits(model, x).abs().max()))
    kept = sum(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    assert kept < sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_scfnet", "scfnet_mobilenetv3_050"])
def test_onnx_of_any_size(name: str, tmp_path: Path) -> None:
    model = goctconv.create_model(name)
    export_onnx(model, tmp_path / "scfnet.onnx")
    x = image(2, 131, 70)
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "scfnet.onnx")).run(None, {"image": x.numpy()})
    expected = logits(model, x)
    assert float((torch.from_numpy(found) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"backbone": "resnet5"},
            UnknownModelError,
            r"backbone='resnet5' is no network of timm \(did you mean .*resnet",
        ),
        ({**TINY, "width": 0}, ValueError, r"width=0 must be an integer of at least 1"),
        ({**TINY, "width": 2.5}, TypeError, r"width=2.5"),
        ({**TINY, "in_chans": 0}, ValueError, r"in_chans=0 must be an integer of at least 1"),
        ({**TINY, "levels": (7,)}, ValueError, r"levels=\(7,\) must be features of test_efficientnet, from 0 to 4"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_model("scfnet", **arguments)


def test_names_of_models_say_their_backbone() -> None:
    with pytest.raises(ValueError, match=r"no weights were released for scfnet_resnet50.*pretrained_backbone=True"):
        goctconv.create_model("scfnet_resnet50", pretrained=True)
    with pytest.raises(
        ValueError, match="backbone=None must be the name of one of timm's networks, on which scfnet stands"
    ):
        goctconv.create_model("scfnet")
    with pytest.raises(
        ValueError,
        match=r"""is not that of scfnet_resnet50, resnet50: use create_model\("scfnet", backbone='resnet18'\)""",
    ):
        goctconv.create_model("scfnet_resnet50", backbone="resnet18")
