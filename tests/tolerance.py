"""The one owner of tolerances: how far two arrays may differ, by dtype."""

from typing import Any

import numpy as np
import torch

RELATIVE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest difference of an entry, as a share of the largest entry expected."""


def assert_close(
    actual: Any,
    expected: Any,
    *,
    dtype: torch.dtype = torch.float64,
    relative: float | None = None,
    because: str = "",
) -> None:
    """Same shape, no NaN, and no entry further off than the dtype's tolerance times the largest entry expected.

    A `relative` of one's own needs its cause in `because`.
    """
    if (relative is not None) != bool(because):
        raise ValueError("a tolerance of its own needs a reason, and a reason a tolerance")
    left, right = _numbers(actual), _numbers(expected)
    if left.shape != right.shape:
        raise AssertionError(f"shapes differ: {left.shape} and {right.shape}")
    if np.isnan(left).any() or np.isnan(right).any():
        raise AssertionError("NaN on one side")
    if not left.size:
        return
    scale = np.abs(right).max()
    limit = (relative or RELATIVE[dtype]) * (scale if scale > 0 else 1.0)
    worst = np.abs(left - right).max()
    if not worst <= limit:
        raise AssertionError(f"differ by {worst:.3g}, allowed {limit:.3g}; largest entry expected {scale:.3g}")


def _numbers(values: Any) -> np.ndarray:
    if torch.is_tensor(values):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
