"""Errors of arguments: their data, their text in Python's words and in others, and the shared checks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from goctconv._checks import (
    ArgumentError,
    ArgumentTypeError,
    check_choice,
    check_integer,
    check_keywords,
    check_number,
    check_share,
    escaped,
    shown,
    unexpected_keyword,
)
from goctconv.pruning import PruningError
from goctconv.training import TrainingError


def as_option(name: str, value: str | None) -> str:
    return f"--{name.replace('_', '-')}" + ("" if value is None else f" {value}")


def test_the_text_is_made_from_data() -> None:
    error = ArgumentError("fine_epochs", 3, cure="pass {fine_epochs=0}, or a {threshold}", problem="has nothing to do")
    assert (error.argument, error.value) == ("fine_epochs", 3)
    assert str(error) == "fine_epochs=3 has nothing to do: pass fine_epochs=0, or a threshold"
    assert error.text(as_option) == "--fine-epochs 3 has nothing to do: pass --fine-epochs 0, or a --threshold"


def test_a_problem_and_what_is_expected() -> None:
    assert str(ArgumentError("size", 7, "16 or more", problem="is small")) == "size=7 is small, expected 16 or more"


def test_values_and_texts_of_others_stay_as_they_are() -> None:
    error = ArgumentError("loss", "{x}", cure="pass {loss=None}", problem=f"is no loss ({escaped('{y=1} , z')})")
    assert str(error) == "loss='{x}' is no loss ({y=1} , z): pass loss=None"
    assert error.text(as_option) == "--loss '{x}' is no loss ({y=1} , z): pass --loss None"
    assert str(ArgumentError("loss", "a , b", "one name", problem="is two")) == "loss='a , b' is two, expected one name"


def test_errors_of_a_run_and_of_pruning_keep_texts_of_others() -> None:
    text = f"it fails ({escaped('no {key}')}): pass {{threshold=None}}"
    for error in (TrainingError(text), PruningError(text)):
        assert str(error) == "it fails (no {key}): pass threshold=None"
        assert error.text(as_option) == "it fails (no {key}): pass --threshold None"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
@pytest.mark.parametrize("kind", [ArgumentError, ArgumentTypeError])
def test_errors_can_be_sent_to_other_processes(kind: type[ArgumentError], copied: Callable[[Any], Any]) -> None:
    error = copied(kind("size", 7, "16 or more", "pass {size=16}"))
    assert (type(error), str(error)) == (kind, "size=7 must be 16 or more: pass size=16")


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: check_integer("n", 0, 1), ValueError, "n=0 must be an integer of at least 1"),
        (lambda: check_integer("n", 9, 1, 8, "pass 8"), ValueError, "n=9 must be an integer from 1 to 8: pass 8"),
        (lambda: check_integer("n", True), TypeError, "n=True must be an integer"),
        (lambda: check_integer("n", 2.0), TypeError, "n=2.0 must be an integer"),
        (lambda: check_number("x", float("nan")), ValueError, "x=nan must be a number"),
        (lambda: check_number("x", 0, above=0), ValueError, "x=0 must be a number above 0"),
        (lambda: check_number("x", 2, 0, below=1), ValueError, "x=2 must be a number of at least 0 and below 1"),
        (lambda: check_number("x", "1"), TypeError, "x='1' must be a number"),
        (lambda: check_share("x", 1.5), ValueError, "x=1.5 must be a number from 0 to 1"),
        (lambda: check_choice("c", "rad", ("red", None)), ValueError, "c='rad' must be one of 'red', None; did you"),
        (lambda: check_choice("c", 1, (True,)), ValueError, "c=1 must be one of True"),
        (lambda: check_keywords("f", ["sise"], {"size"}), TypeError, r"argument='sise' is none of f(); did you mean"),
        (lambda: check_keywords("f", ["q"], {"size"}), TypeError, "argument='q' is none of f(); it has size"),
    ],
)
def test_checks_refuse(call: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert isinstance(caught.value, kind)
    assert str(caught.value).startswith(text)


def test_checks_return_what_they_took() -> None:
    number = check_integer("n", np.int64(3), 1)
    assert (number, type(number)) == (3, int)
    assert check_number("x", np.float32(0.5)) == check_share("x", 0.5) == 0.5
    assert check_choice("c", None, ("red", None)) is None
    check_keywords("f", ["size"], {"size"})


def test_long_values_are_shown_by_type_and_shape() -> None:
    assert shown(torch.zeros(2, 3)) == "<Tensor (2, 3)>"
    assert shown(list(range(99))) == "<list>"
    assert shown("abc") == shown(Path("abc")) == "'abc'"


@pytest.mark.parametrize(
    ("message", "keyword"),
    [
        ("f() got an unexpected keyword argument 'size'", "size"),
        ("Net.__init__() got unexpected keyword argument(s): ['size', 'pad']", "size"),
        ("f() takes 1 positional argument but 2 were given", None),
    ],
)
def test_unexpected_keywords_are_read_off(message: str, keyword: str | None) -> None:
    assert unexpected_keyword(TypeError(message)) == keyword
    assert unexpected_keyword(ValueError(message)) is None
