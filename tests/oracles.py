"""The formulas once more, as dull as they come: loops, float64 numpy and numpy.fft, nothing of the package.

Grids are numpy arrays whose first two axes are a and b. A state is a dict of numpy arrays by `HookedTransformer`'s
names. Slow on purpose; meant for small p.
"""

from collections.abc import Callable, Iterable, Mapping
from math import cos, exp, log, pi, sin, sqrt

import numpy as np

Array = np.ndarray


# ---------------------------------------------------------------------------------------------- the Fourier basis


def basis_rows(p: int) -> list[tuple[str, int, Array]]:
    """(label, frequency, unit vector over the residues) of every component, in order."""
    rows = [("const", 0, [1.0 for _ in range(p)])]
    for k in range(1, p // 2 + 1):
        rows.append((f"cos {k}", k, [cos(2 * pi * k * x / p) for x in range(p)]))
        if 2 * k != p:
            rows.append((f"sin {k}", k, [sin(2 * pi * k * x / p) for x in range(p)]))
    return [(label, k, np.array(row) / sqrt(sum(v * v for v in row))) for label, k, row in rows]


def transform(grid: Array) -> Array:
    """C[i, j] = sum over a, b of F_i(a) F_j(b) grid[a, b]."""
    p = grid.shape[0]
    rows = [row for _, _, row in basis_rows(p)]
    out = np.zeros((p, p, *grid.shape[2:]))
    for i in range(p):
        for j in range(p):
            for a in range(p):
                for b in range(p):
                    out[i, j] += rows[i][a] * rows[j][b] * grid[a, b]
    return out


def block_indices(p: int, k: int) -> list[tuple[int, int]]:
    """Where numpy.fft.fft2 keeps the block of k: frequencies 0, k and -k over a and over b, without (0, 0)."""
    of_one = sorted({0, k, p - k})
    return [(i, j) for i in of_one for j in of_one if (i, j) != (0, 0)]


def power_per_frequency(grid: Array) -> Array:
    """Sum of squares in the block of each frequency, k = 1, 2, ..., p // 2, by numpy.fft."""
    p = grid.shape[0]
    spectrum = np.abs(np.fft.fft2(grid, axes=(0, 1))) ** 2 / p**2
    return np.array([sum(spectrum[i, j] for i, j in block_indices(p, k)) for k in range(1, p // 2 + 1)])


# ------------------------------------------------------------------------------------------------- projections


def constant_part(grid: Array) -> Array:
    """The mean over (a, b), everywhere."""
    return np.broadcast_to(grid.mean(axis=(0, 1)), grid.shape)


def block_part(grid: Array, ks: Iterable[int]) -> Array:
    """The projection on the blocks of these frequencies: every other coefficient of the FFT set to zero."""
    p = grid.shape[0]
    spectrum = np.fft.fft2(grid, axes=(0, 1))
    kept = np.zeros_like(spectrum)
    for k in ks:
        for i, j in block_indices(p, k):
            kept[i, j] = spectrum[i, j]
    return np.fft.ifft2(kept, axes=(0, 1)).real


def sum_part(grid: Array, ks: Iterable[int], sign: int = 1) -> Array:
    """The projection on cos w_k(a + sign b) and sin w_k(a + sign b)."""
    p = grid.shape[0]
    out = np.zeros(grid.shape)
    for k in ks:
        for wave in (cos, sin):
            direction = np.array([[wave(2 * pi * k * (a + sign * b) / p) for b in range(p)] for a in range(p)])
            length = sqrt((direction**2).sum())
            if length < 1e-6:
                continue  # the sine of p / 2
            direction /= length
            out += np.multiply.outer(direction, np.einsum("ab,ab...->...", direction, grid))
    return out


def number_part(rows: Array, ks: Iterable[int]) -> Array:
    """The projection of a (number, ...) array on cos w_k x and sin w_k x, by numpy.fft."""
    p = rows.shape[0]
    spectrum = np.fft.fft(rows, axis=0)
    kept = np.zeros_like(spectrum)
    for k in ks:
        kept[[k, p - k]] = spectrum[[k, p - k]]
    return np.fft.ifft(kept, axis=0).real


def part(grid: Array, ks: Iterable[int], directions: str, sign: int = 1) -> Array:
    """`sum_part` or `block_part`."""
    return sum_part(grid, ks, sign) if directions == "sum" else block_part(grid, ks)


def ablated(grid: Array, ks: Iterable[int], directions: str, keep: bool, sign: int = 1) -> Array:
    """Without these frequencies, or with nothing but them and the constant."""
    frequencies = part(grid, ks, directions, sign)
    return constant_part(grid) + frequencies if keep else grid - frequencies


def fraction_of_variance_explained(grid: Array, projected: Array) -> Array:
    """||projection - its mean||^2 / ||grid - mean||^2 for every trailing index."""
    centred, explained = grid - constant_part(grid), projected - constant_part(projected)
    return (explained**2).sum(axis=(0, 1)) / (centred**2).sum(axis=(0, 1))


# ------------------------------------------------------------------------------------------------------- scores


def cross_entropy(logits: Array, answers: Array, where: Array | None = None) -> float:
    """Mean of -log softmax(logits)[answer], one pair after the other."""
    p = logits.shape[0]
    losses = []
    for a in range(p):
        for b in range(p):
            if where is not None and not where[a, b]:
                continue
            row = logits[a, b]
            top = max(row)
            losses.append(top + log(sum(exp(value - top) for value in row)) - row[answers[a, b]])
    return sum(losses) / len(losses)


def accuracy(logits: Array, answers: Array, where: Array | None = None) -> float:
    """Share of pairs whose largest logit is the answer's."""
    p = logits.shape[0]
    pairs = [(a, b) for a in range(p) for b in range(p) if where is None or where[a, b]]
    return sum(int(np.argmax(logits[a, b]) == answers[a, b]) for a, b in pairs) / len(pairs)


def gini(values: Iterable[float]) -> float:
    """Mean absolute difference of all pairs over twice the mean: 0 of equal values, 1 - 1/n where one has it all."""
    values = list(values)
    n = len(values)
    differences = sum(abs(x - y) for x in values for y in values)
    return differences / (2 * n * sum(values))


# ------------------------------------------------------------------------------------------------- the transformer

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def forward(
    state: Mapping[str, Array],
    tokens: Array,
    edits: Mapping[str, Callable[[Array], Array]] | None = None,
    act: str = "relu",
    stream_counted: int = 1,
) -> dict[str, Array]:
    """Every activation at every position, by names like `0.mlp_post`; tokens (input, position).

    Args:
        edits: name -> what replaces an activation of that name, from where the pass goes on.
        stream_counted: 2 for the authors' attention-only model, whose blocks add their input twice.
    """
    seen: dict[str, Array] = {}

    def now(name: str, value: Array) -> Array:
        seen[name] = edits[name](value) if edits and name in edits else value
        return seen[name]

    w = state
    layers = sum(name.endswith("attn.W_Q") for name in w)
    positions = tokens.shape[1]
    embed = now("embed", w["embed.W_E"][tokens])
    stream = embed + w["pos_embed.W_pos"][:positions]
    for layer in range(layers):
        at = f"blocks.{layer}."
        heads, _, d_head = w[f"{at}attn.W_Q"].shape
        bias = {n: w.get(f"{at}attn.b_{n}", np.zeros((heads, d_head))) for n in "QKV"}
        pattern = np.zeros((len(tokens), heads, positions, positions))
        for head in range(heads):
            query = stream @ w[f"{at}attn.W_Q"][head] + bias["Q"][head]
            key = stream @ w[f"{at}attn.W_K"][head] + bias["K"][head]
            for to in range(positions):
                scores = np.einsum("nd,npd->np", query[:, to], key[:, : to + 1]) / sqrt(d_head)
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                pattern[:, head, to, : to + 1] = weights / weights.sum(axis=1, keepdims=True)
        pattern = now(f"{layer}.attn_pattern", pattern)
        out = np.zeros_like(stream)
        for head in range(heads):
            value = stream @ w[f"{at}attn.W_V"][head] + bias["V"][head]
            written = np.einsum("ntp,npd->ntd", pattern[:, head], value) @ w[f"{at}attn.W_O"][head]
            seen[f"{layer}.head {head}"] = written
            out = out + written
        out = now(f"{layer}.attn_out", out + w.get(f"{at}attn.b_O", 0.0))
        stream = now(f"{layer}.resid_mid", stream_counted * stream + out)
        if f"{at}mlp.W_in" in w:
            pre = now(f"{layer}.mlp_pre", stream @ w[f"{at}mlp.W_in"] + w.get(f"{at}mlp.b_in", 0.0))
            post = now(f"{layer}.mlp_post", ACTIVATIONS[act](pre))
            mlp = now(f"{layer}.mlp_out", post @ w[f"{at}mlp.W_out"] + w.get(f"{at}mlp.b_out", 0.0))
            stream = stream + mlp
        stream = now(f"{layer}.resid_post", stream)
    seen["logits"] = stream @ w["unembed.W_U"] + w.get("unembed.b_U", 0.0)
    return seen


def on_grid(edit: Callable[[Array], Array], p: int, at: str) -> Callable[[Array], Array]:
    """An edit of (a, b) grids -> an edit of an activation whose first axis are all pairs.

    `at` says which part the grid is: "operands" (positions 0 and 1), "pattern" (attention from the last position), or
    "read" (the last position).
    """

    def whole(activation: Array) -> Array:
        out = activation.copy()
        index = {"operands": np.s_[:, :2], "pattern": np.s_[:, :, -1], "read": np.s_[:, -1]}[at]
        cut = activation[index]
        out[index] = edit(cut.reshape(p, p, *cut.shape[1:])).reshape(cut.shape)
        return out

    return whole


def all_pairs(p: int, equals: int | None = None) -> Array:
    """The tokens (a, b, =) of all pairs in lexicographic order."""
    return np.array([[a, b, p if equals is None else equals] for a in range(p) for b in range(p)])


def to_authors_layout(state: Mapping[str, Array]) -> dict[str, Array]:
    """A one-layer state in the layout of the paper's own files: matrices turned round, heads of W_O side by side."""
    turned = {}
    for name, value in state.items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("W_E", "W_in", "W_out"):
            turned[name] = value.T
        elif kind in ("W_Q", "W_K", "W_V"):
            turned[name] = np.stack([head.T for head in value])
        elif kind == "W_O":
            turned[name] = np.concatenate([head.T for head in value], axis=1)
        elif kind in ("W_pos", "W_U", "b_in", "b_out"):
            turned[name] = value
    positions = state["pos_embed.W_pos"].shape[0]
    turned["blocks.0.attn.mask"] = np.tril(np.ones((positions, positions)))
    return {name: np.ascontiguousarray(value) for name, value in turned.items()}
