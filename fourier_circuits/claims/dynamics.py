"""How it came about: what the losses and progress measures say over training."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fourier_circuits.analysis.progress import phases
from fourier_circuits.claims.subject import Measured, Measurement, Subject


def _grokking(s: Subject) -> Measured:
    logged = s.run.losses().dropna(subset=["test_accuracy"])
    train, test = (_first(logged, logged[f"{n}_accuracy"] >= at) for n, at in (("train", 1.0), ("test", 0.99)))
    text = f"train accuracy 100% at epoch {_epoch(train)}, test accuracy 99% at {_epoch(test)}"
    return Measured(text, {"train": train, "test": test}, train is not None and test is not None and test >= 10 * train)


def _three_phases(s: Subject) -> Measured:
    found = phases(s.measures)
    ends = [found.memorisation_ends, found.circuit_formation_ends, found.cleanup_ends]
    known = [end for end in ends if end is not None]
    return Measured(str(found), ends, len(known) == 3 and known == sorted(known))


def _lead(s: Subject) -> Measured:
    frame = s.measures.frame
    below = {name: _settles_below(frame, f"{name}_loss") for name in ("restricted", "test")}
    excluded = frame["excluded_loss"].to_numpy()
    fitted = int(np.argmax(frame["train_loss"].to_numpy() < 0.1))
    least = fitted + int(excluded[fitted:].argmin())
    after = np.arange(len(excluded)) > least
    rises = _first(frame, after & (excluded > 10 * excluded[least]))
    epochs = {"restricted": below["restricted"], "excluded": rises, "test": below["test"]}
    text = (
        f"restricted loss below 1 at {_epoch(epochs['restricted'])}, excluded loss ten times its least "
        f"({excluded[least]:.2g}) at {_epoch(rises)}, test loss below 1 at {_epoch(epochs['test'])}"
    )
    test = epochs["test"]
    earlier = [epochs["restricted"], rises]
    return Measured(text, epochs, test is not None and all(e is not None and test - e >= 1000 for e in earlier))


def _settles_below(frame: pd.DataFrame, column: str, level: float = 1.0) -> int | None:
    above = np.flatnonzero(frame[column].to_numpy() >= level)
    after = int(above[-1]) + 1 if len(above) else 0
    return int(frame.index[after]) if after < len(frame) else None


def _first(frame: pd.DataFrame, condition: Iterable[bool]) -> int | None:
    """The first epoch at which a condition holds."""
    places = np.flatnonzero(np.asarray(condition))
    return int(frame.index[places[0]]) if len(places) else None


def _epoch(epoch: int | None) -> str:
    """An epoch to read."""
    return "never" if epoch is None else f"{epoch:,}"


DYNAMICS: dict[str, Measurement] = {
    "Q1": _grokking,
    "Q29": _three_phases,
    "Q30": _lead,
}
