"""`ablate(model, freqs)`: take frequencies away inside a model, or keep only them, and see what it costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from fourier_circuits.analysis.losses import accuracy, full_loss
from fourier_circuits.arrays import AnswerGrid, LogitGrid, PairMask
from fourier_circuits.fourier.basis import FourierBasis, checked_frequencies, fourier_basis
from fourier_circuits.fourier.subspace import DirectionsName, constant_subspace, frequency_subspace
from fourier_circuits.model.hooks import Edit, HookError, default_layer, edited_logits
from fourier_circuits.model.lens import LensModel, in_float64, task_of
from fourier_circuits.model.sites import SITES, site_named
from fourier_circuits.task import GridTask

NOTHING_CHANGED = 1e-12
"""An edit that moves its activation by less than this share of its norm has changed nothing."""


@dataclass(frozen=True)
class Scores:
    """Loss and accuracy after an ablation and before it, over one set of pairs."""

    loss: float
    accuracy: float
    baseline_loss: float
    baseline_accuracy: float


@dataclass(frozen=True, eq=False)
class Ablation:
    """What an ablation did. Losses are float64 cross entropies over the answers' logits."""

    freqs: tuple[int, ...]
    at: str
    """The site."""
    layer: int | None
    """The block of the site; None for embed and logits."""
    keep: bool
    """True: only the frequencies (and the constant) were kept. False: they were removed."""
    directions: DirectionsName
    """Which directions of each frequency: "sum" or "block"."""
    all: Scores
    """Over all pairs."""
    train: Scores | None
    """Over the training pairs, where `train` was given."""
    test: Scores | None
    """Over all other pairs, where `train` was given."""
    logits: LogitGrid
    """After the ablation."""
    hooks_fired: int
    change: float
    """How far the edit moved the activation: the norm of the difference over the norm of the activation."""
    each: "tuple[Ablation, ...]" = ()
    """With `each=True`: the ablation of each frequency by itself."""

    @property
    def loss(self) -> float:
        """Over all pairs, after the ablation."""
        return self.all.loss

    @property
    def accuracy(self) -> float:
        """Over all pairs, after the ablation."""
        return self.all.accuracy

    @property
    def baseline_loss(self) -> float:
        """Over all pairs, without the ablation."""
        return self.all.baseline_loss

    @property
    def baseline_accuracy(self) -> float:
        """Over all pairs, without the ablation."""
        return self.all.baseline_accuracy

    def to_frame(self) -> pd.DataFrame:
        """One row; with `each=True` one row per frequency."""
        return pd.DataFrame([ablation._row() for ablation in (self.each if self.each else [self])])

    def to_dict(self) -> dict[str, object]:
        """The joint ablation for JSON; with `each=True` the single ones under `each`."""
        row = self._row()
        return row | {"each": [ablation._row() for ablation in self.each]} if self.each else row

    def _row(self) -> dict[str, object]:
        row: dict[str, object] = {
            "freqs": self.freqs[0] if len(self.freqs) == 1 else list(self.freqs),
            "at": self.at,
            "keep": self.keep,
            "directions": self.directions,
            "loss": self.loss,
            "baseline_loss": self.baseline_loss,
            "accuracy": self.accuracy,
            "baseline_accuracy": self.baseline_accuracy,
        }
        for name in ("train", "test"):
            scores = getattr(self, name)
            if scores is not None:
                row |= {f"{name}_loss": scores.loss, f"{name}_baseline_loss": scores.baseline_loss}
                row |= {f"{name}_accuracy": scores.accuracy, f"{name}_baseline_accuracy": scores.baseline_accuracy}
        return row | {"change": self.change, "hooks_fired": self.hooks_fired}

    def __repr__(self) -> str:
        verb = "keep only" if self.keep else "remove"
        place = self.at if self.layer is None else f"{self.at} of layer {self.layer}"
        which = ", ".join(map(str, self.freqs))
        return (
            f"Ablation({verb} {which} ({self.directions} directions) at {place}: "
            f"loss {self.baseline_loss:.4g} -> {self.loss:.4g}, "
            f"accuracy {self.baseline_accuracy:.2%} -> {self.accuracy:.2%}, all {self.logits.shape[0] ** 2} pairs)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.to_frame().to_html(index=False, float_format="{:.4g}".format)


def ablate(
    model: LensModel,
    freqs: int | Iterable[int],
    *,
    at: str = "logits",
    keep: bool = False,
    directions: DirectionsName | None = None,
    each: bool = False,
    layer: int | None = None,
    train: PairMask | None = None,
    task: GridTask | None = None,
) -> Ablation:
    """Remove frequencies from an activation (or keep only them), let the forward pass go on, and score it.

    The constant component always stays: `keep=True` at the logits is the paper's restricted loss, `keep=False` its
    excluded loss.

    Args:
        model: a `HookedTransformer` on modular arithmetic.
        freqs: one frequency or several, each in 1..p//2.
        at: the site: embed, attn_pattern, attn_out, resid_mid, mlp_pre, mlp_post, mlp_out, resid_post or logits. At
            `embed` it is W_E's rows of a and of b in the one-dimensional basis; elsewhere the position that is read.
        keep: keep only the frequencies instead of removing them.
        directions: "sum" (cos and sin of w_k(a+b)) or "block" (all products of frequency k over a and b). None means
            "sum" from mlp_post on, and "block" before it, where the sum has not been formed.
        each: also ablate each frequency by itself.
        layer: the block of the site, in a deeper model; the last, if None.
        train: True for the training pairs; with it the result has `.train` and `.test`.
        task: what the model was trained on; modular addition with p read off the model, if None.

    Returns:
        An `Ablation`.

    Raises:
        ValueError: unknown site or directions, frequencies outside 1..p//2, a task or mask that does not fit the model.
        HookError: a hook that did not fire, or an edit that changed nothing.

    *Source:* section 4.4 of the paper (logits); the other sites are ours.
    """
    site = site_named(at)
    task = task_of(model, task)
    ks = checked_frequencies(freqs, task.p)
    chosen: DirectionsName = directions or ("sum" if site.sum_formed else "block")
    basis = fourier_basis(task.p)
    if train is not None and (tuple(train.shape) != (task.p, task.p) or train.dtype != torch.bool):
        raise ValueError(
            f"train must be a mask of shape ({task.p}, {task.p}), True for the training pairs, "
            f"got {train.dtype} of shape {tuple(train.shape)}"
        )
    in_block = default_layer(model, site, layer) if "{layer}" in site.hook_point else None
    precise = in_float64(model)
    baseline = edited_logits(precise, task, {}).logits

    def one(which: tuple[int, ...]) -> Ablation:
        edit = _edit(basis, which, chosen, keep, task)
        if at == "logits":
            logits = edit(baseline)
            fired, change = 1, ((logits - baseline).norm() / baseline.norm()).item()
        else:
            result = edited_logits(precise, task, {at: edit}, layer)
            logits, fired, change = result.logits, result.fired[at], result.change[at]
        masks = {"all": None} if train is None else {"all": None, "train": train, "test": ~train}
        scores = {name: _scores(logits, baseline, task.answers, where) for name, where in masks.items()}
        return Ablation(
            freqs=which, at=at, layer=in_block, keep=keep, directions=chosen,
            all=scores["all"], train=scores.get("train"), test=scores.get("test"),
            logits=logits, hooks_fired=fired, change=change,
        )  # fmt: skip

    rows = tuple(one((k,)) for k in ks) if each else ()
    joint = rows[0] if len(rows) == 1 else one(ks)
    if max(ablation.change for ablation in (joint, *rows)) < NOTHING_CHANGED:
        what = f"has no component outside the {chosen} directions" if keep else f"has no {chosen} component"
        raise HookError(
            f"the ablation at {at!r} changed nothing: its activation {what} of {', '.join(map(str, ks))}"
            + ("; before mlp_post there is no sum of a and b yet: try directions='block'" if chosen == "sum" else "")
        )
    return replace(joint, each=rows)


def ablate_everywhere(
    model: LensModel, freqs: Iterable[int], *, sites: Sequence[str] | None = None, task: GridTask | None = None
) -> pd.DataFrame:
    """The loss over all pairs after removing frequencies at every site, as `ablate` does by default.

    Args:
        model, freqs, task: as for `ablate`.
        sites: which; all but `attn_pattern`, if None.

    Returns:
        Rows sites; columns `k=14`, ... one frequency removed, `all key` all of them, `all others` everything else but
        the constant. Where there is nothing to remove, the cell is the loss of the model as it is.
    """
    task, precise = task_of(model, task), in_float64(model)
    ks, basis = checked_frequencies(freqs, task.p), fourier_basis(task.p)
    whole = edited_logits(precise, task, {}).logits
    columns = {f"k={k}": ((k,), False) for k in ks} | {"all key": (ks, False), "all others": (ks, True)}

    def loss(at: str, which: tuple[int, ...], keep: bool) -> float:
        edit = _edit(basis, which, "sum" if site_named(at).sum_formed else "block", keep, task)
        logits = edit(whole) if at == "logits" else edited_logits(precise, task, {at: edit}).logits
        return full_loss(logits, task.answers)

    names = sites or [name for name in SITES if name != "attn_pattern"]
    rows = {at: {name: loss(at, *column) for name, column in columns.items()} for at in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("site")


def _edit(basis: FourierBasis, which: tuple[int, ...], directions: DirectionsName, keep: bool, task: GridTask) -> Edit:
    """Projection on the constant and the directions of some frequencies, or their removal."""
    subspace = frequency_subspace(basis, which, directions, task.answers)
    return (constant_subspace(basis) + subspace).project if keep else subspace.remove


def _scores(logits: LogitGrid, baseline: LogitGrid, answers: AnswerGrid, where: PairMask | None) -> Scores:
    return Scores(
        loss=full_loss(logits, answers, where),
        accuracy=accuracy(logits, answers, where),
        baseline_loss=full_loss(baseline, answers, where),
        baseline_accuracy=accuracy(baseline, answers, where),
    )
