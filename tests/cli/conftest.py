"""A tiny trained-looking model on disk, and photographs to run it on."""

import pytest
import torch

from goctconv.models import create_model
from goctconv.saliency import calibrate_batch_norm
from saliency.pictures import gradient, save


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint of ``test_csnet`` whose statistics are calibrated."""
    torch.manual_seed(3)
    model = create_model("test_csnet")
    calibrate_batch_norm(model, [torch.randn(4, 3, 64, 64)])
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def model_options(weights):
    return ["--model", "test_csnet", "--weights", str(weights), "--size", "32"]


@pytest.fixture
def photographs(tmp_path):
    """A folder with a subfolder, a file that is no image, and hidden things."""
    folder = tmp_path / "photographs"
    save(folder / "a.png", gradient(20, 30))
    save(folder / "b.JPG", gradient(33, 21))
    save(folder / "sub" / "a.png", gradient(15, 16))
    save(folder / ".hidden.png")
    save(folder / ".thumbnails" / "a.png")
    (folder / "notes.txt").write_text("not an image")
    return folder
