"""Fixtures for tests of pruning: an exception in a rule, which is a bug of it, is raised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goctconv.pruning.propagate import STRICT


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    token = STRICT.set(True)
    yield
    STRICT.reset(token)
