"""Every example runs as its reader would run it, and does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from markdown_blocks import ROOT

SLOW = {"fading_channels.py", "csf_backbone.py"}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, *arguments: str, folder: Path) -> str:
    ignored = ("-W", "ignore:masking leaves the outputs")  # as runs of a minute do
    command = [sys.executable, "-W", "error", *ignored, ROOT / "examples" / name, *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_own_classifier(folder: Path) -> None:
    file = folder / "weights.pt"
    printed = run("own_classifier.py", "--steps", "30", "--save", str(file), folder=folder)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    (accuracy,) = re.findall(r"accuracy on new pictures: ([\d.]+)% \(chance: 25%\)", printed)
    assert losses[-1] < 0.9
    assert float(accuracy) > 80
    assert printed.endswith("compiled with aot_eager: the same logits\nsaved and loaded again: the same logits\n")
    assert file.stat().st_size > 4 * 16_468


def check_fading_channels(folder: Path) -> None:
    file = folder / "fading.png"
    printed = run("fading_channels.py", "--steps", "120", "--plot", str(file), folder=folder)
    assert re.search(r"^step 120: \d+ of 1040 channels \(.*\) are below 0.001$", printed, re.MULTILINE)
    assert "bn1: act1 (ReLU) was read" in printed
    found = re.findall(
        r"^(\w+) .*: ([\d.]+)% of γ .* accuracy ([\d.]+)%, without these ([\d.]+)%$", printed, re.MULTILINE
    )
    (dynamic, ordinary) = (dict(zip(("kind", "faded", "accuracy", "after"), row, strict=True)) for row in found)
    assert (dynamic["kind"], ordinary["kind"]) == ("dynamic", "ordinary")
    assert float(dynamic["faded"]) > 1
    assert float(ordinary["faded"]) == 0
    assert min(float(run[key]) for run in (dynamic, ordinary) for key in ("accuracy", "after")) > 90
    assert file.read_bytes().startswith(b"\x89PNG")


def check_prune_resnet(folder: Path) -> None:
    file = folder / "removed.html"
    printed = run("prune_resnet.py", "--steps", "150", "--more", "15", "--report", str(file), folder=folder)
    (removed, masked) = map(int, re.findall(r"^(\d+) of (\d+) masked channels removed", printed, re.MULTILINE)[0])
    assert 0 < removed <= masked
    assert float(re.findall(r"equal to the masked network to (\S+) of the largest output", printed)[0]) < 1e-4
    (accuracies,) = re.findall(r"accuracy: ([\d.]+)% before, ([\d.]+)% pruned, ([\d.]+)% after 15 more", printed)
    assert min(map(float, accuracies)) > 90
    assert "the same logits at 32x32 and 27x19" in printed
    assert printed.endswith("saved and loaded again: the same logits\n")
    assert "layer4.<wbr>0.<wbr>bn1" in file.read_text(encoding="utf-8")


def check_csf_backbone(folder: Path) -> None:
    printed = run("csf_backbone.py", "--steps", "40", folder=folder)
    before, trained, slim = map(float, re.findall(r"mean absolute error ([\d.]+)", printed))
    assert trained < 0.7 * before
    assert slim < before
    (removed, masked) = map(int, re.findall(r"^(\d+) of (\d+) masked channels removed$", printed, re.MULTILINE)[0])
    assert 0 < removed <= masked
    assert printed.endswith("saved and loaded again: the same logits\n")


def check_distil(folder: Path) -> None:
    printed = run("distil.py", folder=folder)
    assert printed.startswith("16 photographs without masks, 4 more to compare with the teacher\n")
    far, _, near = map(float, re.findall(r"([\d.]+) from the teacher's maps", printed))
    assert near < 0.7 * far
    (removed, after, before) = re.findall(
        r"^(\d+) channels removed: ([\d,]+) of ([\d,]+) parameters", printed, re.MULTILINE
    )[0]
    assert int(removed) > 0
    assert int(after.replace(",", "")) < int(before.replace(",", ""))


def check_cut_out(folder: Path) -> None:
    file, photographs = folder / "cut-outs.png", ROOT / "examples" / "photographs"
    printed = run("cut_out.py", str(photographs), "-o", str(file), "--width", "100", folder=folder)
    shares = re.findall(r"^(\w+)\.jpg: (\d+)% of the picture", printed, re.MULTILINE)
    assert [name for name, _ in shares] == ["bowl", "donkey"]
    assert all(20 < int(share) < 50 for _, share in shares)
    with Image.open(file) as picture:
        assert picture.width == 300


CHECKS = {
    "cut_out.py": check_cut_out,
    "csf_backbone.py": check_csf_backbone,
    "distil.py": check_distil,
    "fading_channels.py": check_fading_channels,
    "own_classifier.py": check_own_classifier,
    "prune_resnet.py": check_prune_resnet,
}


@pytest.mark.parametrize(
    "example",
    [pytest.param(file, marks=pytest.mark.slow if file.name in SLOW else ()) for file in EXAMPLES],
    ids=lambda path: path.name,
)
def test_example(example: Path, tmp_path: Path) -> None:
    CHECKS[example.name](tmp_path)


def test_every_check_has_its_example() -> None:
    assert sorted(CHECKS) == [path.name for path in EXAMPLES]
