"""create_model and list_models."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import timm

import goctconv
from goctconv import ArgumentError, LicenseError, UnknownModelError


def test_names() -> None:
    assert goctconv.list_models() == [
        "csf",
        "csf_res2net101",
        "csf_res2net50",
        "csf_resnet101",
        "csf_resnet18",
        "csf_resnet50",
        "csnet_x1",
        "csnet_x1_2",
        "csnet_x1_5",
        "csnet_x1_8",
        "csnet_x1_l",
        "csnet_x2",
        "csnet_x2_l",
        "scfnet",
        "scfnet_mobilenetv3_050",
        "scfnet_resnet50",
        "scfnet_swin_base",
        "test_csf_resnet",
        "test_csnet",
        "test_scfnet",
    ]
    assert goctconv.list_models("csnet_x2*") == ["csnet_x2", "csnet_x2_l"]
    assert timm.list_models("csnet*") == goctconv.list_models("csnet*")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("csnet_x3", "csnet_x1"),
        ("CSNet", "csnet_x1 or"),
        ("csnet", "csnet_x1 or"),
        ("csnet-x2", "csnet_x2"),
        ("CSNet_x1_l", "csnet_x1_l"),
        ("resnet51", "resnet50"),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"name='{name}' is no known model \(did you mean .*{nearest}"):
        goctconv.create_model(name)


def test_name_like_nothing_suggests_nothing() -> None:
    with pytest.raises(UnknownModelError, match=r"name='zzzzqqqq' is no known model: goctconv.list_models"):
        goctconv.create_model("zzzzqqqq")


def test_tagged_and_foreign_names() -> None:
    assert goctconv.create_model("csnet_x1_l.duts").pretrained_cfg["tag"] == "duts"
    assert goctconv.create_model("test_resnet").num_classes == 1000


def test_unknown_tag_names_the_known_ones() -> None:
    with pytest.raises(
        UnknownModelError, match=r"name='csnet_x1_l.dutz' is no set of weights of csnet_x1_l: it has distilled, duts"
    ):
        goctconv.create_model("csnet_x1_l.dutz")


def test_name_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="name=None must be a string, such as"):
        goctconv.create_model(None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csnet_x1", r"spilt=\(3, 1\) is no argument of csnet_x1: the arguments are those of goctconv.models.CSNet"),
        (
            "csf_resnet18",
            r"spilt=\(3, 1\) is no argument of csf_resnet18: the arguments are those of goctconv.models.CSF",
        ),
        ("test_resnet", r"spilt=\(3, 1\) is no argument of test_resnet$"),
    ],
)
def test_unknown_arguments_are_refused(name: str, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        goctconv.create_model(name, spilt=(3, 1))
    assert isinstance(caught.value, ArgumentError)
    assert caught.value.argument == "spilt"


def test_errors_carry_what_they_mean() -> None:
    with pytest.raises(UnknownModelError) as caught:
        goctconv.create_model("csnet_x3")
    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
    for error in (caught.value, copied):
        assert (error.argument, error.value) == ("name", "csnet_x3")
        assert error.nearest[:2] == ("csnet_x2", "csnet_x1")
    assert str(copied) == str(caught.value)
    with pytest.raises(LicenseError) as refused:
        goctconv.create_model("csnet_x2_l", pretrained=True, accept_license="mit")
    copied = pickle.loads(pickle.dumps(refused.value))  # noqa: S301  # our own
    for error in (refused.value, copied):
        assert (error.license, error.weights, error.accepted) == ("cc-by-nc-sa-4.0", "csnet_x2_l", "mit")
    assert str(copied) == str(refused.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("csnet_x1_l", {"base_width": 30}),
        ("csnet_x2_l", {"split": (3, 1)}),
        ("csnet_x1_l", {"depths": (1, 1, 1, 1, 1)}),
    ],
)
def test_arguments_without_effect_are_refused(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="would have no effect") as caught:
        goctconv.create_model(name, **arguments)
    assert {caught.value.argument: caught.value.value} == arguments


def test_two_sources_of_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        goctconv.create_model("csnet_x1_l", pretrained=True, checkpoint_path="weights.pth")


@pytest.mark.parametrize("create", [goctconv.create_model, timm.create_model], ids=["goctconv", "timm"])
def test_without_released_weights(create: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no weights were released for csnet_x1; they exist for csnet_x1_l"):
        create("csnet_x1", pretrained=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": "weights.pth"}, "a file goes to checkpoint_path"),
        ({"accept_license": True}, "the licence's name"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        goctconv.create_model("csnet_x1_l", **arguments)
