"""What the measures replace: loops over neurons, answers and frequencies, as one would first write them."""

import numpy as np

Array = np.ndarray


def key_frequencies(neurons: Array, share: float = 0.85, at_least: int = 5) -> list[int]:
    """One neuron, one frequency at a time, with numpy's FFT."""
    p, _, count = neurons.shape
    members = dict.fromkeys(range(1, p // 2 + 1), 0)
    for n in range(count):
        power = np.abs(np.fft.fft2(neurons[:, :, n] - neurons[:, :, n].mean())) ** 2
        best, best_power = 0, 0.0
        for k in members:
            own = [0, k, p - k]
            block = sum(power[i, j] for i in own for j in own)
            if block > best_power:
                best, best_power = k, block
        if best_power > share * power.sum():
            members[best] += 1
    return [k for k, found in members.items() if found >= at_least]


def losses(logits: Array, answers: Array, freqs: list[int], train: Array) -> dict[str, float]:
    """Restricted and excluded losses, joint and one at a time: one answer and one direction at a time."""
    p = logits.shape[0]
    a = np.arange(p)
    directions = {}
    for k in freqs:
        for wave in (np.cos, np.sin):
            direction = wave(2 * np.pi * k * (a[:, None] + a) / p)
            directions[k, wave.__name__] = direction / np.linalg.norm(direction)

    def projected(which: list[int]) -> Array:
        kept = np.zeros_like(logits)
        for (k, _), direction in directions.items():
            if k in which:
                for c in range(p):
                    kept[:, :, c] += (direction * logits[:, :, c]).sum() * direction
        return kept

    def loss(these: Array, where: Array) -> float:
        total = 0.0
        for x, y in np.argwhere(where):
            row = these[x, y]
            top = row.max()
            total += np.log(np.exp(row - top).sum()) + top - row[answers[x, y]]
        return total / where.sum()

    everywhere = np.ones((p, p), dtype=bool)
    found = {"restricted": loss(projected(freqs) + logits.mean(axis=(0, 1)), everywhere)}
    found["excluded"] = loss(logits - projected(freqs), train)
    for k in freqs:
        found[f"excluded_{k}"] = loss(logits - projected([k]), train)
    return found
