"""Threads, hypothesis, and where the files lie that only some machines have.

Nothing here may import `fourier_circuits`: the type checker's import hook is installed after this file is read.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "suite",
    deadline=None,
    max_examples=15,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parent.parent
OFFICIAL = REPOSITORY.parent / "shared" / "official"


@pytest.fixture(scope="session")
def official() -> Path:
    """The folder of the checkpoints that the paper's authors published."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"the authors' checkpoints are not at {OFFICIAL}")
    return OFFICIAL
