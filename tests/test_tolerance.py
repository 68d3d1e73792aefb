import numpy as np
import pytest
import torch

from tests.tolerance import RELATIVE, assert_close


@pytest.mark.parametrize("dtype", RELATIVE)
def test_it_passes_just_inside_and_fails_just_outside(dtype):
    expected = torch.tensor([4.0, -8.0], dtype=torch.float64)
    assert_close(expected + 0.9 * 8 * RELATIVE[dtype], expected, dtype=dtype)
    with pytest.raises(AssertionError, match="differ by"):
        assert_close(expected + 1.1 * 8 * RELATIVE[dtype], expected, dtype=dtype)


def test_it_fails_on_shape_nan_and_infinity():
    with pytest.raises(AssertionError, match="shapes differ"):
        assert_close(np.zeros(2), np.zeros((2, 1)))
    with pytest.raises(AssertionError, match="NaN"):
        assert_close([np.nan], [np.nan])
    with pytest.raises(AssertionError, match="differ by"):
        assert_close([np.inf], [1.0])


def test_a_looser_tolerance_needs_a_reason():
    with pytest.raises(ValueError, match="reason"):
        assert_close(1.0, 1.1, relative=0.2)
    assert_close(1.0, 1.1, relative=0.2, because="this test is about the argument")
