"""create_model and list_models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm

import goctconv
from goctconv import UnknownModelError


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
    with pytest.raises(UnknownModelError, match=f"unknown model '{name}'.*{nearest}"):
        goctconv.create_model(name)


def test_name_like_nothing_suggests_nothing() -> None:
    with pytest.raises(UnknownModelError, match=r"unknown model 'zzzzqqqq'[^?]*: goctconv.list_models"):
        goctconv.create_model("zzzzqqqq")


def test_tagged_and_foreign_names() -> None:
    assert goctconv.create_model("csnet_x1_l.duts").pretrained_cfg["tag"] == "duts"
    assert goctconv.create_model("test_resnet").num_classes == 1000


def test_unknown_tag_names_the_known_ones() -> None:
    with pytest.raises(UnknownModelError, match=r"csnet_x1_l has no weights 'dutz'; it has duts"):
        goctconv.create_model("csnet_x1_l.dutz")


def test_name_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="name=None must be a string"):
        goctconv.create_model(None)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="spilt"):
        goctconv.create_model("csnet_x1", spilt=(3, 1))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("csnet_x1_l", {"base_width": 30}),
        ("csnet_x2_l", {"split": (3, 1)}),
        ("csnet_x1_l", {"depths": (1, 1, 1, 1, 1)}),
    ],
)
def test_arguments_without_effect_are_refused(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} would have no effect"):
        goctconv.create_model(name, **arguments)


def test_two_sources_of_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        goctconv.create_model("csnet_x1_l", pretrained=True, checkpoint_path="weights.pth")


@pytest.mark.parametrize("create", [goctconv.create_model, timm.create_model], ids=["goctconv", "timm"])
def test_without_released_weights(create: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no weights were released for csnet_x1; they exist for csnet_x1_l"):
        create("csnet_x1", pretrained=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"pretrained": "weights.pth"}, "checkpoint_path="), ({"accept_license": True}, "the licence's name")],
)
def test_arguments_of_the_wrong_kind(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        goctconv.create_model("csnet_x1_l", **arguments)
