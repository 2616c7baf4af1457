"""Files of every kind that is read, damaged at random, and what becomes of them."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import nn

import goctconv
from goctconv import ArgumentError, CheckpointError, load_plan, plan_pruning
from goctconv.pruning import PruningError
from goctconv.saliency import ImageError, read_image
from goctconv.training import Callback, TrainingError
from goctconv.training._checkpoint_files import STATE, TENSORS, with_checksum
from reference.training import EPOCHS, OPTIONS, learn, loader
from reference.training import network as small_network

NAMED = (CheckpointError, PruningError, ArgumentError, ImageError, TrainingError)
MAX_PIXELS = 2_000_000
_EXTREME: tuple[Any, ...] = (
    -1, 0, 1, 7, 2**16, 2**31, 2**63, 10**12, 10**400, -(2**40), 0.5, 1e300, float("nan"), None, True, "", "a" * 3000,
    "{a:>99999999}", [], {}, [[]], [1, 2, 3], {"a": 1}, [0] * 3000,
)  # fmt: skip
_WORDS = (
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 8,
    b"\0\0\0\x80",
    b"\x00\x00\x00\x10",
    b"K\xff",
    b"r\xff\xff\xff\x0f",
)


class Kind(NamedTuple):
    """A kind of files: an intact one, how it is damaged, and how it is read."""

    content: bytes
    damage: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], object]
    name: str


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Change bytes, or cut, repeat, move and replace pieces; mostly at the front, where the structure is."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        end = len(made) if rng.random() < 0.4 else min(len(made), 2000)
        place, length = rng.randrange(end or 1), rng.choice((1, 2, 4, 8, 60))
        piece = bytes(made[place : place + length])
        match rng.randrange(6):
            case 0:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                word = rng.choice(_WORDS)
                made[place : place + len(word)] = word
            case 2:
                del made[place : place + length]
            case 3:
                made[place:place] = piece * rng.choice((1, 2, 500))
            case 4:
                made[rng.randrange(end or 1) :][:length] = piece
            case _:
                if rng.random() < 0.3:
                    del made[place:]
    return bytes(made)


def damaged_zip(content: bytes, rng: random.Random) -> bytes:
    """Damage a zip file itself, or what one of its entries holds, under a checksum that is right again."""
    if rng.random() < 0.3:
        return damaged(content, rng)
    made = io.BytesIO()
    compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(made, "w", compression) as archive:
        for name in given.namelist():
            is_hit = name.endswith("data.pkl") or rng.random() < 0.05
            archive.writestr(name, damaged(given.read(name), rng) if is_hit else given.read(name))
    return made.getvalue()


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Damage the bytes of a JSON file, or replace, remove and repeat values in it."""
    if rng.random() < 0.2:
        return damaged(content, rng)
    data = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(data))
        holder, key = rng.choice(places) if places else (data, None)
        match rng.randrange(4):
            case 0 if isinstance(holder, dict):
                holder.pop(key)
            case 1 if isinstance(holder, list):
                holder.extend(copy.deepcopy(holder[key]) for _ in range(rng.choice((1, 50))))
            case _ if key is not None:
                holder[key] = copy.deepcopy(rng.choice(_EXTREME))
    return json.dumps(data).encode()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key
        yield from _places(value)


def weights_and_plans(folder: Path) -> dict[str, Kind]:
    """Return the kinds of weights, folders and plans."""
    torch.manual_seed(0)
    model = goctconv.create_model("test_csnet")
    state = model.state_dict()
    legacy, zipped, paddle = io.BytesIO(), io.BytesIO(), {name: value.numpy() for name, value in state.items()}
    torch.save({"state_dict": state, "epoch": 3}, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    saved = folder / "saved"
    model.save_pretrained(saved)
    plan = plan_pruning(network(), torch.zeros(1, 3, 16, 16), ratio=0.5)

    def create(file: Path) -> None:
        goctconv.create_model("test_csnet", checkpoint_path=file)

    def create_saved(file: Path) -> None:
        (saved / file.name).write_bytes(file.read_bytes())
        goctconv.create_model(f"local-dir:{saved}")

    config = (saved / "config.json").read_bytes()
    return {
        "torch.save": Kind(zipped.getvalue(), damaged_zip, create, "a.pth"),
        "torch.save, before 1.6": Kind(legacy.getvalue(), damaged, create, "b.pth"),
        "safetensors": Kind(safetensors.torch.save(state), damaged, create, "c.safetensors"),
        "pdparams": Kind(pickle.dumps(paddle, protocol=2), damaged, create, "d.pdparams"),
        "config.json": Kind(config, damaged_json, create_saved, "config.json"),
        "plan.json": Kind(
            json.dumps(plan.to_dict()).encode(),
            damaged_json,
            lambda file: load_plan(file).apply(network()),
            "plan.json",
        ),
    }


def checkpoints(folder: Path) -> dict[str, Kind]:
    """Return the kinds of files of a training checkpoint, within the epoch after pruning; a run goes on from it."""
    path = folder / "run" / f"{EPOCHS:05d}-0000002"
    options = {**OPTIONS, "finetune_epochs": 1}

    class Stop(Callback):
        def on_step_end(self, _run: Any, record: Any) -> None:
            if record.epoch > EPOCHS and record.step == 3:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        run = {"checkpoints": folder / "run", "checkpoint_steps": 2, "callbacks": [Stop()]}
        learn(small_network(), loader(), nn.CrossEntropyLoss(), **run, **options)
    given = {name: (path / name).read_bytes() for name in (STATE, TENSORS)}

    def resume(file: Path) -> None:
        for name, content in given.items():
            (path / name).write_bytes(content)
        content = file.read_bytes()
        (path / file.name).write_bytes(content)
        if zlib.crc32(content) % 8:  # mostly, the checksum is right again
            with contextlib.suppress(ValueError):
                state = json.loads((path / STATE).read_bytes())
                state = with_checksum(state, (path / TENSORS).read_bytes()) if isinstance(state, dict) else state
                (path / STATE).write_text(json.dumps(state), encoding="utf-8")
        learn(small_network(), loader(), nn.CrossEntropyLoss(), resume=path, **options)

    return {
        STATE: Kind(given[STATE], damaged_json, resume, STATE),
        TENSORS: Kind(given[TENSORS], damaged, resume, TENSORS),
    }


def images(_: Path) -> dict[str, Kind]:
    """Return the kinds of images."""
    levels = np.random.default_rng(0).integers(256, size=(60, 90, 4), dtype=np.uint8)
    levels[20:] = levels[20:21]  # or all formats are as large as the pixels
    modes = {"JPEG": "RGB", "PNG": "RGBA", "GIF": "P", "TIFF": "RGB", "WEBP": "RGBA", "BMP": "RGB", "ICO": "RGBA"}
    modes |= {"JPEG2000": "RGB", "PPM": "RGB", "TGA": "RGBA", "AVIF": "RGB", "ICNS": "RGBA"}
    found = {}
    for form, mode in modes.items():
        stream = io.BytesIO()
        options = {"compression": "tiff_adobe_deflate"} if form == "TIFF" else {}
        Image.fromarray(levels).convert(mode).save(stream, form, **options)
        content = stream.getvalue()
        found[form] = Kind(content, damaged, lambda file: read_image(file, max_pixels=MAX_PIXELS), f"a.{form.lower()}")
    return found


def assert_read_or_refused(kind: Kind, folder: Path, seeds: int = 25) -> None:
    """Damage a file several times: it must be read, or refused by name, which it must be at least once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {outcome(kind, folder, f"{kind.name} {seed}") for seed in range(seeds)}
    assert found <= {"read", "refused"}
    assert "refused" in found


def outcome(kind: Kind, folder: Path, seed: str) -> str:
    """Damage a file, read it, and return what became of it: "read", "refused" or the name of another error."""
    file = folder / kind.name
    file.write_bytes(kind.damage(kind.content, random.Random(seed)))  # noqa: S311
    try:
        kind.read(file)
    except NAMED as error:
        return "refused" if "\n" not in str(error) else f"{type(error).__name__} of several lines"
    except Exception as error:  # noqa: BLE001  # which is what is looked for
        return f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return "read"
