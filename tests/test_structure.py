"""The structure of the source: imports that point down without circles, private modules left alone, and its size."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from markdown_blocks import ROOT
from public_names import PACKAGES, public_names
from structure import exception_texts, private_names
from structure.tree import FILES, IMPORTS, PACKAGE, TREES, Import, is_package, part

# Who may import whom: a module imports parts of its own rank or a lower one.
ORDER = (
    {"_version", "_features", "_checks", "_files", "_limits", "_torch", "_distributed"},
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
TESTS = ROOT / "tests"
API = TESTS / "public_api.txt"
FOR_ALL = ORDER[0]  # private modules at the root that every part may use
KNOW_TORCH_ALONE = {"optim", "pruning"}
ONLY_IN = {
    "timm": {"models", "cli"},
    "PIL": {"saliency", "report", "study", "cli"},
    "matplotlib": {"report"},
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


def folders() -> list[str]:
    return [module for module in FILES if is_package(module)]


def members(folder: str) -> dict[str, set[str]]:
    """Return who imports whom among the modules and folders right inside a folder, each folder as one.

    ``__init__`` is the folder's own file. It names what is public, perhaps lazily, so it counts as importing them all.
    """
    graph = {"__init__": {member(folder, module) for module in FILES} - {"", "__init__"}}
    for found in OWN:
        importer, imported = (member(folder, module) for module in (found.importer, found.module))
        if importer and imported and (importer != imported or found.importer == found.module):
            graph.setdefault(importer, set()).add(imported)
    return graph


def member(folder: str, module: str) -> str:
    """Return which member of a folder a module is, or is in; empty for none."""
    if module == folder:
        return "__init__"
    return module.removeprefix(f"{folder}.").partition(".")[0] if module.startswith(f"{folder}.") else ""


@pytest.mark.parametrize("folder", folders())
def test_no_circle_of_imports(folder: str) -> None:
    try:
        TopologicalSorter(members(folder)).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_circle_of_modules() -> None:
    graph: dict[str, set[str]] = {}
    for found in OWN:
        graph.setdefault(found.importer, set()).add(found.module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def points_up(found: Import) -> bool:
    importer, imported = part(found.importer), part(found.module)
    if importer in KNOW_TORCH_ALONE and imported not in KNOW_TORCH_ALONE | ORDER[1] | FOR_ALL:
        return True
    return RANKS[imported] > RANKS[importer]


def test_tests_lie_in_folders_as_the_source_does() -> None:
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    source = {file.parent.relative_to(PACKAGE) for file in PACKAGE.rglob("__init__.py")}
    assert folders <= source


def test_every_part_has_a_rank() -> None:
    assert {part(module) for module in FILES} == set(RANKS)


def test_imports_point_down() -> None:
    assert [str(found) for found in OWN if points_up(found)] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_where_they_are_needed(package: str) -> None:
    allowed = ONLY_IN[package]
    found = [found for found in IMPORTS if found.module.partition(".")[0] == package]
    assert [str(found) for found in found if part(found.importer) not in allowed] == []


def is_private(found: Import) -> bool:
    """Whether what is imported belongs to another part alone."""
    if part(found.importer) == part(found.module) or part(found.module) in {"", *FOR_ALL}:
        return False
    return any(name.startswith("_") for name in (*found.module.split("."), found.name))


def test_private_modules_of_other_parts_are_left_alone() -> None:
    assert [str(found) for found in OWN if found.importer != "goctconv" and is_private(found)] == []


# What the command line imports beside public names, each with its reason; types for annotations are free, as they are
# those of objects that public functions take and return.
PLUMBING = {"_checks", "_distributed", "_files", "_limits", "_version"}
NOT_PUBLIC_IN_CLI = {
    "goctconv.options": "commands derive their options from the fields of configurations, and add some of their own",
    "goctconv._torch.is_out_of_memory": "torch and its backends have no exception of one type for it",
    "goctconv._torch.worker_was_killed": "nor for a worker process that was killed",
    "goctconv.deployment.Benchmark": "what `goctconv bench` measures",
    "goctconv.models.hub.packaged_cfg": "where no weights are named, those that come with the package are",
    "goctconv.models.hub.size_of_weights": "and their size is the default",
    "goctconv.saliency.data.header_sizes": "maps of other sizes than their masks are refused before hours of work",
    "goctconv.saliency.data.mask_of": "a page shows a mask as the data set's rule reads it",
    "goctconv.saliency.data.with_rules": "what masks are taken for is said before hours of work, in options' words",
    "goctconv.saliency.data.warn_of_masks": "the same, as a note of training",
    "goctconv.saliency.data.describe_unread": "files of a folder that are no photographs are counted",
    "goctconv.saliency.data.is_photograph": "raw ones fail, drawings do not",
    "goctconv.saliency.data.is_read": "which files of a folder are read",
    "goctconv.saliency.matting.find_background": "a background is read, or refused, before the network is loaded",
    "goctconv.saliency.learning.PRESETS": "the help tells their names, summaries and networks",
}


def is_public(found: Import) -> bool:
    """Whether users may import it: a package that has public names, or one of these."""
    return found.module in PACKAGES and (not found.name or found.name in public_names(found.module))


def test_the_command_line_uses_public_names() -> None:
    foreign = [found for found in OWN if part(found.importer) == "cli" != part(found.module) and not found.is_for_types]
    others = [found for found in foreign if not is_public(found) and part(found.module) not in PLUMBING]
    excepted = {
        found: [name for name in (found.module, f"{found.module}.{found.name}") if name in NOT_PUBLIC_IN_CLI]
        for found in others
    }
    assert [str(found) for found, names in excepted.items() if not names] == []
    assert {name for names in excepted.values() for name in names} == set(NOT_PUBLIC_IN_CLI)


# Functions that read messages of others for want of a type; the versions that were tried stand beside each.
READERS_OF_MESSAGES = {
    ("goctconv._checks", "escaped"): "any text that is put into a template: its braces are doubled, nothing is read",
    ("goctconv._checks", "unexpected_keyword"): "Python names a keyword that it does not know in a message alone",
    ("goctconv.models.backbone._features", "_tells_of_no_features"): "timm has no exception for it",
    ("goctconv.saliency.data._images", "_is_truncation"): "Pillow raises OSError for it as for all that is broken",
    ("goctconv.report._theme", "readable"): "any text that is shown: without the characters that XML cannot hold",
}


def test_no_text_of_an_exception_is_searched_or_changed() -> None:
    found = [
        use for use in exception_texts.uses() if use[0] != "goctconv._torch" and use[:2] not in READERS_OF_MESSAGES
    ]
    assert [f"{module}:{line} in {function}" for module, function, line in found] == []


def test_readers_of_messages_exist() -> None:
    assert set(READERS_OF_MESSAGES) <= {use[:2] for use in exception_texts.uses()}


def test_private_names_of_torch_are_used_in_two_places() -> None:
    found = [use for use in private_names.uses() if part(use[0]) not in {"_torch", "graph"}]
    assert [f"{module}:{line} uses {name}" for module, line, name in found] == []


def names_given(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names of variables and arguments, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def test_variables_have_names() -> None:
    found = [f"{module}:{line}" for module, tree in TREES.items() for name, line in names_given(tree) if name == "one"]
    assert found == []


@pytest.mark.parametrize("module", FILES)
def test_module_docstrings_name_the_thing(module: str) -> None:
    first = (ast.get_docstring(TREES[module]) or "").partition(" ")[0]
    assert first not in {"What", "How", "Let", "Lets", "Which", "Where", "Who", "When", "Why"}


@pytest.mark.parametrize("module", FILES)
def test_no_docstring_begins_with_let(module: str) -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    documented = [node for node in ast.walk(TREES[module]) if isinstance(node, kinds)]
    assert [node.name for node in documented if (ast.get_docstring(node) or "").startswith(("Let ", "Lets "))] == []


# What the source may grow to without a reason; a change that needs more says why. Since the structure was made (216
# files and 30,327 lines; 210 and 29,500 were aimed at): `layers/conversion` (12 files), operators, balance and masking
# of `pruning` (11 files), colours and kinds of masks (3 files, 900 lines), terminals, formats, locks of runs,
# completion (5 files, 1,000 lines), checks of files of others (2 files, 600 lines), native kernels for training and
# maps in a folder as the teacher (4 files, 500 lines), removal of backgrounds (10 files, 1,100 lines), networks as C
# (9 files, 1,500 lines), checks of checkpoints and exported networks (200 lines).
FILES_AT_MOST = 275
LINES_AT_MOST = 42_000
IGNORES_AT_MOST = 10
NAMES_AT_MOST = 117  # 110, `octave`, `native_kernels`, `remove_background`, `refine_cutout`, `Cutout` and of C files


def test_the_source_is_small() -> None:
    texts = [file.read_text(encoding="utf-8") for file in FILES.values()]
    assert len(texts) <= FILES_AT_MOST
    assert sum(text.count("\n") for text in texts) <= LINES_AT_MOST
    assert sum(text.count("# type: ignore") for text in texts) <= IGNORES_AT_MOST
    assert len(API.read_text(encoding="utf-8").split()) <= NAMES_AT_MOST
