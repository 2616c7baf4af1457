import numpy as np
from PIL import Image

from goctconv.cli import main


def test_the_maps_of_the_released_weights(shared, tmp_path):
    images = shared / "data" / "ecssd_200" / "images"
    photographs = [str(images / f"{index:04}.jpg") for index in range(1, 21)]
    weights = shared / "weights" / "csnet-L-x1.pth.tar"
    assert main(["predict", *photographs, "-o", str(tmp_path), "--weights", str(weights), "--device", "cpu"]) == 0
    differences = []
    for path in sorted((shared / "reference" / "csnet_x1_l_maps").glob("*.png")):
        with Image.open(path) as expected, Image.open(tmp_path / path.name) as written:
            differences.append(np.abs(np.asarray(expected).astype(int) - np.asarray(written)))
    assert len(differences) == 20
    assert max(difference.mean() for difference in differences) <= 0.5
    assert max(difference.max() for difference in differences) <= 3
