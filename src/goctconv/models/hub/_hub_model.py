"""Saving and loading of a network with its widths, without pickle: folders, and the Hugging Face Hub."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import safetensors.torch
import timm
from huggingface_hub import ModelCard, ModelCardData
from timm.models._hub import save_config_for_hf
from torch import nn
from typing_extensions import Self

from ._published_layouts import Layout

MODULES = ("csf", "csnet", "scfnet")  # of timm's registry, whose networks are of this package
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_GENERATED = "<!-- written by goctconv; remove this line to keep your changes -->"


class HubModel(nn.Module):
    """A network that timm makes, and that saves itself with the arguments that make it again.

    ``weights_license`` is the licence of the weights it was loaded with, None where nobody has named one.
    """

    layout: ClassVar[Layout]
    card_tags: ClassVar[tuple[str, ...]] = ()
    # Of the arguments that timm keeps with a model: consent, which must not be stored, and what model_args() replaces.
    forgotten_args: ClassVar[frozenset[str]] = frozenset({"accept_license"})

    pretrained_cfg: dict[str, Any]
    weights_license: str | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_model_args":
            value = {key: argument for key, argument in value.items() if key not in self.forgotten_args}
        super().__setattr__(name, value)

    @property
    def backbone_is_pruned(self) -> bool:
        """Whether channels have been cut out of a backbone, whose widths no argument holds."""
        return False

    def model_args(self) -> dict[str, Any]:
        """Return the arguments, as JSON holds them, that make a network of this shape."""
        raise NotImplementedError

    def save_pretrained(self, directory: str | os.PathLike[str], *, license: str | None = None) -> None:  # noqa: A002
        """Save the network: ``config.json`` with its widths, ``model.safetensors``, and a model card.

        ``goctconv.create_model("local-dir:DIRECTORY")`` makes it again, and so does plain timm, after
        ``import goctconv.models``, with ``timm.create_model("local-dir:DIRECTORY", pretrained=True)``.

        Args:
            directory: Where to; it is made if it does not exist. A model card that somebody wrote is kept.
            license: Licence of the weights, such as "apache-2.0"; by default that of the weights it was loaded with.

        Raises:
            ValueError: The network was not made by its name, so that there is no architecture to save.
        """
        if not hasattr(self, "pretrained_cfg"):
            raise ValueError(
                f"this {type(self).__name__} was made by its class, so no name stands for it: make it with "
                "goctconv.create_model(NAME, ...), load its state dict there, and save that"
            )
        license = license or self.weights_license  # noqa: A001  # the field's own word
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_config(self, folder, license)
        write_weights(self, folder)
        card = folder / "README.md"
        if not card.exists() or _GENERATED in card.read_text(encoding="utf-8"):
            card.write_text(self._card(license), encoding="utf-8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,  # noqa: A002  # the field's own word
        token: str | None = None,
        private: bool = False,
        commit_message: str = "Add model",
    ) -> str:
        """Save the network to a repository of the Hugging Face Hub, and return its address.

        ``goctconv.create_model("hf-hub:REPO_ID")`` makes it again. A model card that is already there is kept.

        Args:
            repo_id: "owner/name"; the repository is made if it does not exist.
            license: As in `save_pretrained`.
            token: The Hub's access token; by default the one you are logged in with.
            private: Whether a new repository is private.
            commit_message: Describes the change.
        """
        api = huggingface_hub.HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, license=license)
            if api.file_exists(repo_id, "README.md"):
                (Path(folder) / "README.md").unlink()
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message)
        return f"hf-hub:{repo_id}"

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Return a network saved by `save_pretrained` or `push_to_hub`, with its weights.

        Args:
            source: A directory, or "owner/name" on the Hugging Face Hub.
            **kwargs: Arguments of the model to change, such as ``num_classes``.

        Raises:
            FileNotFoundError: There is no such directory, nor a repository of that form; or no ``config.json`` in it.
            TypeError: What was saved is not of this class.
        """
        path = Path(source)
        if path.is_dir() and not (path / CONFIG).is_file():
            raise FileNotFoundError(f"{path} has no {CONFIG}: it was not written by save_pretrained")
        if not path.is_dir() and (path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", str(source))):
            raise FileNotFoundError(f"{source} is neither a directory nor OWNER/NAME on the Hugging Face Hub")
        scheme = "local-dir" if path.is_dir() else "hf-hub"
        model = timm.create_model(f"{scheme}:{source}", pretrained=True, **kwargs)
        if not isinstance(model, cls):
            raise TypeError(f"{source} holds a {type(model).__name__}, not a {cls.__name__}: use goctconv.create_model")
        return model

    def _card(self, license_name: str | None) -> str:
        name = self.pretrained_cfg["architecture"]
        data = ModelCardData(
            license=license_name, library_name="timm", tags=list(self.card_tags), pipeline_tag="image-segmentation"
        )
        parameters = sum(parameter.numel() for parameter in self.parameters())
        terms = license_name or "not stated by whoever saved them"
        text = (
            f"---\n{data.to_yaml()}\n---\n{_GENERATED}\n\n# {name}\n\n"
            f"{parameters:,} parameters. Licence of the weights: {terms}.\n\n"
            '```python\nimport goctconv\n\nmodel = goctconv.create_model("hf-hub:OWNER/NAME")\n```\n'
        )
        return str(ModelCard(text))


def holds_its_widths(model: nn.Module) -> bool:
    """Whether the arguments of a network tell all its widths, so that no plan is needed to make it again."""
    return isinstance(model, HubModel) and not model.backbone_is_pruned


def write_config(model: nn.Module, folder: Path, license_name: str | None) -> None:
    """Write how timm makes a network of this architecture; a name of a licence replaces the one it was made with."""
    arguments = model.model_args() if isinstance(model, HubModel) else None
    named = license_name or arguments is not None
    config: dict[str, Any] = {"pretrained_cfg": {"license": license_name}} if named else {}
    path: Any = folder / CONFIG  # timm 1.0.27 takes no text, which is what later versions are annotated with
    save_config_for_hf(model, path, model_config=config, model_args=arguments)


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write the tensors beside the configuration, for the same readers: safetensors lets the owner alone read."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(stat.S_IMODE((folder / CONFIG).stat().st_mode))
