"""Cutting a site's grid out of an activation, and putting another in its place."""

import pytest
import torch

from fourier_circuits.model.sites import SITES
from fourier_circuits.task import GridTask, ModularAddition

P = 5
TASK = ModularAddition(P)
PLAIN = (P * P, 3, 4)
SHAPES = {"attn_pattern": (P * P, 2, 3, 3)}


def activation(at):
    return torch.randn(SHAPES.get(at, PLAIN), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("at", SITES)
def test_put_replaces_that_part_alone_and_changes_nothing_given(at):
    site, before = SITES[at], activation(at)
    given, grid = before.clone(), torch.full_like(SITES[at].take(before, TASK), 9.0)
    after = site.put(given, grid, TASK)
    assert torch.equal(given, before)
    assert torch.equal(site.take(after, TASK), grid)
    assert int((after != before).sum()) == grid.numel()
    assert torch.equal(site.put(before, site.take(before, TASK), TASK), before)


def test_the_positions_are_the_tasks():
    task = GridTask(P, TASK.tokens, TASK.answers, TASK.outputs, read_at=1, operands_at=(2, 0))
    whole = activation("embed")
    assert torch.equal(SITES["resid_mid"].take(whole, task)[2, 3], whole[2 * P + 3, 1])
    assert torch.equal(SITES["embed"].take(whole, task)[2, 3], whole[2 * P + 3, [2, 0]])
    pattern = activation("attn_pattern")
    assert torch.equal(SITES["attn_pattern"].take(pattern, task)[2, 3], pattern[2 * P + 3, :, 1])


def test_hook_names_carry_the_layer():
    assert SITES["mlp_post"].hook_name(3) == "blocks.3.mlp.hook_post"
    assert SITES["embed"].hook_name(3) == "hook_embed"
