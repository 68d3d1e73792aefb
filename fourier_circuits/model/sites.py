"""The places where an ablation can act: each a hook point, and which part of its activation is a grid over (a, b)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fourier_circuits.task import GridTask


@dataclass(frozen=True)
class Site:
    """One place. Its grid is (p, p, ...) cut out of the activation that TransformerLens gives to a hook."""

    name: str
    hook_point: str
    """TransformerLens's name, `{layer}` standing for the block; empty for the logits, which are the model's output."""
    part: Literal["operands", "pattern", "read"]
    """"operands": positions of a and b, grid (a, b, 2, model). "pattern": attention from the position that is read,
    grid (a, b, head, position). "read": the position that is read, grid (a, b, width)."""
    sum_formed: bool
    """Whether a + b has been formed here, so that an ablation by default takes the sum directions."""
    added_to: str = ""
    """A second hook point: the site's activation is the sum of both, and an edit is made at `hook_point`, as a
    difference."""

    def hook_name(self, layer: int) -> str:
        """The hook point in a block."""
        return self.hook_point.format(layer=layer)

    def added_name(self, layer: int) -> str:
        """The hook point of the other summand in a block; empty where there is none."""
        return self.added_to.format(layer=layer)

    def take(self, activation: Tensor, task: GridTask) -> Tensor:
        """The site's grid, from an activation whose first axis are all pairs."""
        if self.part == "operands":
            chosen = activation[:, list(task.operands_at)]
        elif self.part == "pattern":
            chosen = activation[:, :, task.read_at]
        else:
            chosen = activation[:, task.read_at]
        return chosen.reshape(task.p, task.p, *chosen.shape[1:])

    def put(self, activation: Tensor, grid: Tensor, task: GridTask) -> Tensor:
        """The activation with the site's part replaced by `grid`."""
        edited = activation.clone()
        flat = grid.flatten(0, 1).to(activation.dtype)
        if self.part == "operands":
            edited[:, list(task.operands_at)] = flat
        elif self.part == "pattern":
            edited[:, :, task.read_at] = flat
        else:
            edited[:, task.read_at] = flat
        return edited


SITES = {
    site.name: site
    for site in (
        Site("embed", "hook_embed", "operands", sum_formed=False),
        Site("attn_pattern", "blocks.{layer}.attn.hook_pattern", "pattern", sum_formed=False),
        Site("attn_out", "blocks.{layer}.hook_attn_out", "read", sum_formed=False),
        # An edit at TransformerLens 4's own hook_resid_mid reaches the MLP, but not the path around it.
        Site("resid_mid", "blocks.{layer}.hook_attn_out", "read", False, added_to="blocks.{layer}.hook_resid_pre"),
        Site("mlp_pre", "blocks.{layer}.mlp.hook_pre", "read", sum_formed=False),
        Site("mlp_post", "blocks.{layer}.mlp.hook_post", "read", sum_formed=True),
        Site("mlp_out", "blocks.{layer}.hook_mlp_out", "read", sum_formed=True),
        Site("resid_post", "blocks.{layer}.hook_resid_post", "read", sum_formed=True),
        Site("logits", "", "read", sum_formed=True),
    )
}


def site_named(name: str) -> Site:
    """The site of that name.

    Raises:
        ValueError: no such site.
    """
    if name not in SITES:
        raise ValueError(f"unknown site {name!r}; known sites are {', '.join(SITES)}")
    return SITES[name]
