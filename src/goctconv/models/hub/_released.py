"""Released weights of others: addresses, digests, consent to their licence, and download."""

from __future__ import annotations

import hashlib
import logging
import os
from http.client import HTTPException
from pathlib import Path

import torch

from ._errors import CONSENT_VARIABLE, CheckpointError, LicenseError

_logger = logging.getLogger(__name__)

PUBLISHED_LICENSE = "cc-by-nc-sa-4.0"
# Released files, by address; everything else is loaded as timm does.
RELEASED_SHA256 = {
    "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints/csnet-L-x1/csnet-L-x1.pth.tar": (
        "581f02dad8f7333329264fcdf5710111db947246ad43852d3aa0518393157995"
    ),
    "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints/csnet-L-x2/csnet-L-x2.pth.tar": (
        "8d72d13a0edbbd6e5a682ea3e39f4193077f570c8c4c147201083316e0c9490f"
    ),
}


def require_license(license_name: str, weights: str, source: str, accepted: str | None) -> None:
    """Check that the user has accepted a licence, by argument or environment variable; it is stored nowhere."""
    offered = [accepted] if accepted else os.environ.get(CONSENT_VARIABLE, "").split(",")
    if license_name.lower() not in (name.strip().lower() for name in offered):
        raise LicenseError(license_name, weights, source, accepted)


def download(url: str, sha256: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Return a downloaded file, from the cache (``TORCH_HOME``) if it is there, having checked its digest."""
    folder = Path(directory) if directory else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / f"{sha256[:8]}-{Path(url).name}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _logger.info("downloading %s to %s", url, path)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
        except (OSError, HTTPException) as error:
            raise ConnectionError(
                f"cannot download {url} ({getattr(error, 'reason', error)}): "
                "fetch the file by other means and pass it as checkpoint_path="
            ) from error
        except RuntimeError as error:
            raise CheckpointError(url, f"is not the expected file, so it was not kept ({error})") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise CheckpointError(path, f"has the sha256 {digest}, expected {sha256}", "delete it to download it again")
    return path
