"""Edits written on (a, b) grids, made inside a model's forward pass through TransformerLens hooks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fourier_circuits.arrays import LogitGrid
from fourier_circuits.model.lens import LensModel, in_float64
from fourier_circuits.model.read import logit_grid
from fourier_circuits.model.sites import SITES, Site, site_named
from fourier_circuits.task import GridTask

Edit = Callable[[Tensor], Tensor]
"""A grid of a site -> the grid that takes its place."""


@dataclass(frozen=True, eq=False)
class EditedPass:
    """What came of a forward pass with edits."""

    logits: LogitGrid
    fired: Mapping[str, int]
    """How often the hook of each site ran."""
    change: Mapping[str, float]
    """How far each edit moved its grid: ||edited - original|| / ||original||."""


class HookError(RuntimeError):
    """A hook did not run, or an edit changed nothing."""


def default_layer(model: LensModel, site: Site, layer: int | None) -> int:
    """The layer asked for, or the last one.

    Raises:
        ValueError: a layer that the model does not have.
    """
    layers = len(model.blocks)
    if layer is None:
        return layers - 1
    if not 0 <= layer < layers:
        raise ValueError(f"site {site.name!r}: layer must lie in 0..{layers - 1}, got {layer}")
    return layer


@torch.no_grad()
def edited_logits(model: LensModel, task: GridTask, edits: Mapping[str, Edit], layer: int | None = None) -> EditedPass:
    """Run all pairs through the model in float64, with the grid of each named site replaced by its edit's result.

    The forward pass goes on from the edited activation. Hooks are gone afterwards, also after an exception.

    Args:
        model: a `HookedTransformer`.
        task: tokens and the position that is read.
        edits: site name -> edit.
        layer: the block whose sites are meant; the last, if None.

    Raises:
        ValueError: an unknown site, or an edit that returns another shape.
        HookError: a hook that did not run exactly once.
    """
    model = in_float64(model)
    fired = dict.fromkeys(edits, 0)
    change: dict[str, float] = {}
    before: dict[str, Tensor] = {}

    def apply(site: Site, activation: Tensor) -> Tensor:
        fired[site.name] += 1
        own = site.take(activation, task)
        grid = own + before[site.name] if site.added_to else own
        edited = edits[site.name](grid)
        if edited.shape != grid.shape:
            raise ValueError(
                f"the edit at {site.name!r} must return shape {tuple(grid.shape)}, got {tuple(edited.shape)}"
            )
        norm = grid.norm().item()
        change[site.name] = (edited - grid).norm().item() / norm if norm else 0.0
        return site.put(activation, own + (edited - grid) if site.added_to else edited, task)

    def hooks_for(site: Site) -> list[tuple[str, Callable[..., Tensor | None]]]:
        def keep(activation: Tensor, hook: object) -> None:
            before[site.name] = site.take(activation, task)

        block = default_layer(model, site, layer)
        edit = (site.hook_name(block), lambda activation, hook: apply(site, activation))
        return [(site.added_name(block), keep), edit] if site.added_to else [edit]

    for name in edits:
        site_named(name)
    sites = [site for name, site in SITES.items() if name in edits]
    inside = [pair for site in sites if site.hook_point for pair in hooks_for(site)]
    try:
        output = model.run_with_hooks(task.flat_tokens(), fwd_hooks=inside)
    except KeyError as error:
        absent = next((name for name, _ in inside if name in str(error)), None)
        if absent is None:
            raise
        raise HookError(f"no edit at {', '.join(edits)}: this model has no hook point {absent!r}") from None
    for site in sites:
        if not site.hook_point:
            output = apply(site, output)
        if fired[site.name] != 1:
            raise HookError(
                f"the hook at {site.name!r} ran {fired[site.name]} times instead of once: "
                f"is {site.hook_name(default_layer(model, site, layer))!r} part of this model's forward pass?"
            )
    return EditedPass(logit_grid(output, task), fired, change)
