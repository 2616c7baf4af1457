"""Fixtures for every test: one thread, a fixed seed, and the folder of recorded numbers if there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

SHARED_VARIABLE = "GOCTCONV_SHARED"


def pytest_configure() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> int:
    """The seed that torch's global generator starts each test from."""
    torch.manual_seed(20)
    return 20


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """What sets the threads of PyTorch until the end of the test."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds ``reference/`` (recorded numbers, which are not part of the repository)."""
    value = os.environ.get(SHARED_VARIABLE)
    if not value:
        pytest.skip(f"recorded numbers: set {SHARED_VARIABLE} to the folder that holds them")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"recorded numbers: {SHARED_VARIABLE}={value} is not a folder")
    return folder


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def files() -> Callable[[Path], list[str]]:
    """A function that lists the files below a folder."""
    return files_below
