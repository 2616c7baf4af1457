"""Which files will be written, checked before any is."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .._command import CommandError
from ._inputs import Photograph, real_path


class Task(NamedTuple):
    """A photograph, and the output path of each kind of result ("", "_cutout", "_overlay")."""

    path: Path
    outputs: dict[str, Path]


def plan_outputs(photographs: Sequence[Photograph], output: Path, kinds: Sequence[str]) -> list[Task]:
    """Name the outputs of each photograph.

    Raises:
        CommandError: Two photographs would write the same file, or one would overwrite a photograph.
    """
    if output.exists() and not output.is_dir():
        raise CommandError(f"-o {output}: this is a file: give a folder.")
    tasks = [
        Task(path, {kind: output / stem.with_name(f"{stem.name}{kind}.png") for kind in kinds})
        for path, stem in photographs
    ]
    parents: dict[Path, str] = {}
    inputs = {_key(real_path(task.path, parents)): task.path for task in tasks}
    writers: dict[str, Path] = {}
    for task in tasks:
        for target in task.outputs.values():
            key = _key(real_path(target, parents))
            if key in inputs:
                raise CommandError(
                    f"{target}, a result of {task.path}, would overwrite the photograph {inputs[key]}: give another "
                    "folder with -o."
                )
            if key in writers:
                same = writers[key].parent == task.path.parent
                cure = "rename one" if same else "rename one, or pass the folder that holds both (subfolders are kept)"
                raise CommandError(
                    f"{writers[key]} and {task.path} would both be written to {target}: run them with different -o, or "
                    f"{cure}."
                )
            writers[key] = task.path
    return tasks


def _key(path: str) -> str:
    """Return one key for the names that a file system takes for the same file."""
    return os.path.normcase(path).casefold() if platform.system() in {"Windows", "Darwin"} else path
