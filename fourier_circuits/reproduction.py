"""`reproduce(run)`: every claim of the paper that one run can answer, its printed value beside ours.

The claims as printed stand in `claims/printed.py`; a measurement returns text to read, a value to compute with, and
whether the claim's stated criterion holds. Nothing is tuned to a run.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from fourier_circuits.analysis.frequencies import KeyFrequencies
from fourier_circuits.analysis.progress import Phases, ProgressMeasures, phases
from fourier_circuits.claims.ablations import ABLATIONS
from fourier_circuits.claims.dynamics import DYNAMICS
from fourier_circuits.claims.printed import PAPER, PrintedClaim
from fourier_circuits.claims.structure import STRUCTURE
from fourier_circuits.claims.subject import Measured, Measurement, Subject
from fourier_circuits.training.run import Run

MEASUREMENTS: dict[str, Measurement] = {**STRUCTURE, **ABLATIONS, **DYNAMICS}


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    id: str
    printed: PrintedClaim
    ours: Measured

    @property
    def verdict(self) -> str:
        """ "holds" or "differs", by `printed.holds_if`."""
        return "holds" if self.ours.holds else "differs"


@dataclass(frozen=True, eq=False)
class Reproduction:
    """The paper's claims on one run."""

    run: Run
    epoch: int
    """The checkpoint that the claims about the trained network are measured on."""
    freqs: KeyFrequencies
    claims: tuple[Claim, ...]
    measures: ProgressMeasures
    phases: Phases
    subject: Subject
    """What was measured on: activations, weights, neurons of the checkpoint."""

    def to_frame(self) -> pd.DataFrame:
        """One row per claim."""
        return pd.DataFrame(
            [
                {
                    "id": c.id,
                    "where": c.printed.where,
                    "claim": c.printed.sentence,
                    "paper": c.printed.printed,
                    "ours": c.ours.text,
                    "verdict": c.verdict,
                    "holds_if": c.printed.holds_if,
                    "definition": c.printed.definition,
                    "comparable": c.printed.comparable,
                }
                for c in self.claims
            ]
        ).set_index("id")

    def to_dict(self) -> dict[str, Any]:
        """The table and its circumstances, for JSON; every claim also with its value as numbers."""
        rows = self.to_frame().reset_index().to_dict(orient="records")
        for row, claim in zip(rows, self.claims, strict=True):
            row["value"] = claim.ours.value
        return {
            "run": {"config": self.run.config.to_dict(), **self.run.about},
            "epoch": self.epoch,
            "key_frequencies": list(self.freqs),
            "key_frequencies_rule": f"{self.freqs.rule}: {self.freqs.criterion}",
            "claims": rows,
        }


def reproduce(run: Run, epoch: int | None = None) -> Reproduction:
    """Measure every claim of `PAPER` on a run.

    Args:
        run: a trained run; its stored measures are used, and taken now if it has none.
        epoch: the checkpoint for the claims about the trained network; the last, if None.

    Raises:
        ValueError: a model of more than one layer, or one without key frequencies (it has not grokked).
        FileNotFoundError: no checkpoint at that epoch, no losses.
    """
    if run.config.model.n_layers != 1 or run.config.model.d_mlp == 0:
        raise ValueError(
            "the paper's claims are about one layer with an MLP; for other models use ablate, key_frequencies and "
            "residual_table"
        )
    subject = Subject(run, run.epochs[-1] if epoch is None and run.epochs else epoch)
    if not subject.freqs:
        raise ValueError(
            f"{str(run.path)!r} at epoch {subject.epoch} has no key frequencies ({subject.freqs!r}): "
            "it has not grokked, so there is no circuit to measure"
        )
    claims = tuple(Claim(id, printed, MEASUREMENTS[id](subject)) for id, printed in PAPER.items())
    return Reproduction(run, subject.epoch, subject.freqs, claims, subject.measures, phases(subject.measures), subject)
