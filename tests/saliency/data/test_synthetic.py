import numpy as np

from goctconv.saliency import synthetic_images


def test_pairs_are_what_they_say():
    for photograph, mask in synthetic_images(8, seed=3):
        assert (photograph.mode, mask.mode) == ("RGB", "L")
        assert photograph.size == mask.size
        assert all(240 <= side <= 400 for side in photograph.size)
        salient = np.asarray(mask) > 128
        assert 0.01 < salient.mean() < 0.7
        pixels = np.asarray(photograph, dtype=float)
        contrast = np.abs(pixels[salient].mean(axis=0) - pixels[~salient].mean(axis=0)).max()
        assert contrast > 20


def test_the_seed_and_the_index_decide():
    few, many = list(synthetic_images(2, seed=5)), list(synthetic_images(4, seed=5))
    for (photograph, mask), (same, same_mask) in zip(few, many, strict=False):
        assert photograph.tobytes() == same.tobytes()
        assert mask.tobytes() == same_mask.tobytes()
    other = next(synthetic_images(1, seed=6))[0]
    assert len({photograph.tobytes() for photograph, _ in many} | {other.tobytes()}) == 5
