"""Area averaging, luma and normalisation, against exact fractions, PIL and numpy."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from cpframe_plugins import images


@pytest.mark.parametrize(("shape", "size"), [((7, 5), 3), ((6, 6), 4), ((4, 9), 1), ((3, 2), 5), ((8, 8), 8)])
def test_area_average_is_the_exact_mean_over_areas(shape: tuple[int, int], size: int) -> None:
    height, width = shape
    pixels = np.random.default_rng(0).integers(256, size=(2, 1, height, width), dtype=np.uint8)

    def overlap(new: int, old: int, side: int) -> Fraction:
        start, end = Fraction(new * side, size), Fraction((new + 1) * side, size)
        return max(Fraction(0), min(end, Fraction(old + 1)) - max(start, Fraction(old)))

    for image, averaged in zip(pixels, images.area_average(pixels, size), strict=True):
        for y in range(size):
            for x in range(size):
                total = sum(
                    overlap(y, i, height) * overlap(x, j, width) * int(image[0, i, j])
                    for i in range(height)
                    for j in range(width)
                )
                # Python rounds ties to even, as numpy does
                assert averaged[0, y, x] == round(total * size * size / (height * width))


def test_area_average_in_chunks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(7, 3, 6, 6), dtype=np.uint8)
    whole = images.area_average(pixels, 2)
    monkeypatch.setattr(images, "_CHUNK", 3)
    np.testing.assert_array_equal(images.area_average(pixels, 2), whole)


def test_a_channel_without_contrast_is_divided_by_one() -> None:
    pixels = np.zeros((4, 2, 3, 3), dtype=np.uint8)
    pixels[:, 0] = 51
    pixels[0, 1, 0, 0] = 255
    mean, std = images.normalisation(pixels)
    assert mean == pytest.approx((0.2, 1 / 36))
    assert std == pytest.approx((1.0, (1 / 36 - 1 / 36**2) ** 0.5))


def test_luma_is_that_of_pil() -> None:
    """PIL also rounds in whole numbers, so no pixel may differ."""
    pixels = np.random.default_rng(0).integers(256, size=(5, 3, 40, 40), dtype=np.uint8)
    pixels[0, :, 0, :2] = [[0, 255]] * 3
    for image, grey in zip(pixels, images.luma(pixels), strict=True):
        np.testing.assert_array_equal(grey[0], np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")))


def test_area_average_of_oblong_images() -> None:
    """Each side alone: repeat each pixel once per pixel of the new side, then average as many as the old side has."""
    pixels = np.random.default_rng(1).integers(256, size=(2, 1, 6, 9), dtype=np.uint8)
    fine = pixels.repeat(4, axis=2).repeat(5, axis=3).astype(float)
    expected = fine.reshape(2, 1, 4, 6, 5, 9).mean(axis=(3, 5))
    np.testing.assert_array_equal(images.area_average(pixels, 4, 5), np.rint(expected.round(9)))
