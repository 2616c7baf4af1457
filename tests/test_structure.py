"""The structure of the source: imports point down, and heavy packages are imported where they are needed."""

from __future__ import annotations

import pytest

from structure.tree import FILES, IMPORTS, Import, part

# Who may import whom: a module imports parts of its own rank or a lower one.
ORDER = (
    {"_version", "_features", "_checks", "_files", "_torch", "_distributed"},
    {"graph", "options"},
    {"layers", "optim", "pruning"},
    {"models"},
    {"deployment", "training"},
    {"saliency"},
    {"study", "report"},
    {"cli"},
    {"", "__main__"},  # ``goctconv`` itself: nothing below imports it
)
RANKS = {name: rank for rank, parts in enumerate(ORDER) for name in parts}
FOR_ALL = ORDER[0]  # private modules at the root that every part may use
KNOW_TORCH_ALONE = {"optim", "pruning"}
ONLY_IN = {
    "timm": {"models", "cli"},
    "PIL": {"saliency", "report", "study", "cli"},
    "torchvision": set(),
}

OWN = [found for found in IMPORTS if found.is_own]


def test_imports_are_seen() -> None:
    pairs = {(part(found.importer), part(found.module)) for found in OWN}
    assert {("layers", "_features"), ("models", "layers"), ("cli", "saliency")} <= pairs
    assert any(found.module == "timm" for found in IMPORTS)
    assert Import("goctconv.layers", 0, "goctconv.layers._prelu", "PReLU")._replace(line=0) in {
        found._replace(line=0) for found in OWN
    }


def points_up(found: Import) -> bool:
    importer, imported = part(found.importer), part(found.module)
    if importer in KNOW_TORCH_ALONE and imported not in KNOW_TORCH_ALONE | ORDER[1] | FOR_ALL:
        return True
    return RANKS[imported] > RANKS[importer]


def test_every_part_has_a_rank() -> None:
    assert {part(module) for module in FILES} <= set(RANKS)


def test_imports_point_down() -> None:
    assert [str(found) for found in OWN if points_up(found)] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_where_they_are_needed(package: str) -> None:
    allowed = ONLY_IN[package]
    found = [found for found in IMPORTS if found.module.partition(".")[0] == package]
    assert [str(found) for found in found if part(found.importer) not in allowed] == []
