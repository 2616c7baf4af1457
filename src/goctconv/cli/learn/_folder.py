"""``goctconv learn``: the folder of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._command import CommandError
from .._output import plural, shorten, write_file
from ._config import CHECKPOINTS, CONFIG, Config

PAIRS = "pairs.json"
_UNFINISHED = ".goctconv-"  # how write_atomic begins names


def check_folder(folder: Path, *, resume: bool) -> None:
    """Check that a run may be written to a folder.

    Raises:
        CommandError: It may not.
    """
    if resume:
        return
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--output {folder}: this is a file: name a folder.")
    try:
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise CommandError(f"--output {folder}: cannot be read ({error.strerror or error}).") from error
    names = sorted(name for name in names if not name.startswith(_UNFINISHED))
    if CONFIG in names:
        if not any((folder / CHECKPOINTS).glob("[0-9]*")):
            return  # it came to nothing
        raise CommandError(f"--output {folder}: there is a run in this folder: add --resume to go on with it.")
    if names:
        raise CommandError(f"--output {folder}: this folder holds other things ({shorten(names, limit=3)}).")


def begin_folder(config: Config, pairs: Mapping[str, list[str]], *, resume: bool) -> None:
    """Write the configuration, and which pairs are learned from; or compare them with those of the run.

    Raises:
        CommandError: They cannot be written, or there are other pairs now.
    """
    path = config.output / PAIRS
    if resume and path.exists():
        _check_pairs(config.output, read_json(path), pairs)
    write_file(path, json.dumps(pairs, indent=1))
    write_file(config.output / CONFIG, config.to_toml())


def _check_pairs(folder: Path, before: Mapping[str, list[str]], pairs: Mapping[str, list[str]]) -> None:
    for part, names in pairs.items():
        earlier = before.get(part, [])
        if names != earlier:
            changes = [
                f"{plural(len(some), 'pair')} {what} ({shorten(sorted(some), limit=3)})"
                for some, what in ((set(earlier) - set(names), "gone"), (set(names) - set(earlier), "new"))
                if some
            ]
            raise CommandError(
                f"the data of the run in {folder} have changed: {part}: {', '.join(changes) or 'another order'}: "
                "restore the files, or begin anew in another folder."
            )


def read_json(path: Path) -> Any:
    """Return what a file of the run holds.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: cannot be read ({error}).") from error
