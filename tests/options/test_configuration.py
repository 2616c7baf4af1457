"""Configurations: their checks, their documentation, and their files in TOML."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from goctconv import ArgumentError
from goctconv.options import (
    Configuration,
    changed,
    choice,
    documented,
    explains_options,
    integer,
    number,
    option,
    options_of,
    path,
    paths,
    read_toml,
    shares,
)
from goctconv.training import TrainingConfig


@documented
@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Options."""

    layers: int = option(3, "number of layers", integer(1))
    rate: float = option(0.5, "as a multiple of {layers}", number(above=0))
    kind: str | None = option(None, "kind", choice("fast", "slow").optional("none"), in_python="or a function")
    name: str = "plain"
    is_quiet: bool = False
    at: tuple[float, ...] = option((2 / 3,), "shares", shares())
    folder: Path | None = option(None, "folder", path("DIR").optional())
    files: tuple[Path, ...] = option((), "files", paths("FILE"))
    more: object = option(None, "not on the command line")


@documented
@dataclass(frozen=True, kw_only=True)
class Other(Config):
    """More options."""

    rate: float = changed(Config, "rate", default=0.25, help="rate")


OPTIONS = options_of(Config)


@explains_options(Config)
def work(config: Config | None = None, *, step: int = 0) -> int:
    return step if config is None else config.layers


def test_the_docstring_says_what_the_help_says_and_what_python_takes_besides() -> None:
    documentation = Config.__doc__ or ""
    assert "    rate: as a multiple of layers\n    kind: kind; or a function\n" in documentation
    assert (Other.__doc__ or "").splitlines() == ["More options.", "", "Attributes:", "    rate: rate"]
    assert "or a function" not in OPTIONS["kind"].help


@pytest.mark.parametrize("config", [TrainingConfig, Config])
def test_every_option_is_documented_by_its_help(config: type[Configuration]) -> None:
    for name, described in options_of(config).items():
        assert described.help or config is Config
        assert f"    {name}: " in (config.__doc__ or "")


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"'layer' is none of Config\(\); did you mean 'layers'\?"):
        Config(layer=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"layers=3 is an option of the config: pass config=Config\(layers=...\)"):
        work(layers=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"'stepp' is none of work\(\); did you mean 'step'\?"):
        work(stepp=3)  # type: ignore[call-arg]
    assert (work(Config(layers=5)), work(step=7)) == (5, 7)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("layers", 0, ValueError),
        ("layers", 2.0, TypeError),
        ("layers", True, TypeError),
        ("layers", 10**19, ValueError),
        ("rate", 0, ValueError),
        ("rate", "fast", TypeError),
        ("kind", "quick", ValueError),
        ("name", 3, TypeError),
        ("is_quiet", 1, TypeError),
        ("at", (0.5, 0.25), ValueError),
        ("at", ("x",), TypeError),
        ("at", (), ValueError),
        ("folder", 3, TypeError),
    ],
)
def test_values_are_checked(name: str, value: object, kind: type[Exception]) -> None:
    with pytest.raises(ArgumentError) as failed:
        Config(**{name: value})
    assert isinstance(failed.value, kind)
    assert (failed.value.argument, failed.value.value) == (name, value)


def test_none_may_be_given_by_its_word() -> None:
    assert Config(kind="none") == Config()
    assert OPTIONS["kind"].read("none") is None
    assert OPTIONS["kind"].text(None) == "none"
    assert OPTIONS["folder"].text(None) == "not set"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("layers", "1_000", 1000),
        ("rate", "2.5e-1", 0.25),
        ("kind", "slow", "slow"),
        ("at", "1/3,0.5", (1 / 3, 0.5)),
        ("folder", "/runs", Path("/runs")),
    ],
)
def test_values_are_read_from_texts(name: str, text: str, value: object) -> None:
    assert OPTIONS[name].read(text) == value


def test_files_hold_all_options(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    given = Config(layers=5, kind="slow", at=(0.25, 0.75), folder=tmp_path / 'a "b"', is_quiet=True)
    for config in (given, Config()):
        file.write_text(config.to_toml())
        assert Config(**read_toml(file, OPTIONS)) == config
    assert "# folder is not set\n" in Config().to_toml()
    assert "more" not in given.to_toml()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("layer = 3", r"layer=3 is no option; did you mean 'layers'\?; all are layers, rate"),
        ("is-quiet = true\nis_quiet = true", "is_quiet=True is given twice, with - and with _: remove one"),
        ("layers = true", "layers=True must be an integer of at least 1"),
        ("rate = [1]", r"rate=\[1\] must be a text or a number"),
    ],
)
def test_files_are_checked(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text(line)
    with pytest.raises(ArgumentError, match=message):
        read_toml(file, OPTIONS)


def test_changes_are_spelled_as_on_the_command_line() -> None:
    assert Config(is_quiet=True, rate=0.1, at=(0.5, 0.75), more=3).changes() == {
        "rate": "0.1",
        "is-quiet": "True",
        "at": "0.5,0.75",
    }


def test_configurations_are_values() -> None:
    config = TrainingConfig(lr=1e-3, milestones=(0.5,), amp="bf16")
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == replace(config) == config  # noqa: S301
    assert config != TrainingConfig()
