"""What is there: spectra, periodicity, the neuron-logit map, neurons and heads of one frequency."""

from math import cos, pi

from fourier_circuits.analysis.circuit import cosine_fit, head_fits, head_spectra, map_residual, read_off
from fourier_circuits.analysis.frequencies import key_by_spectrum, power_shares
from fourier_circuits.claims.subject import Measured, Measurement, Subject
from fourier_circuits.fourier.grid import transform


def _embedding_spectrum(s: Subject) -> Measured:
    found = key_by_spectrum(s.weights.embed, "embedding")
    share = power_shares(s.weights.embed)[[k - 1 for k in found]].sum().item()
    text = f"{len(found)} frequencies ({', '.join(map(str, found))}) hold {share:.1%}; used later: {len(s.freqs)}"
    return Measured(text, {"frequencies": list(found), "share": share}, len(found) <= 10 and share >= 0.8)


def _map_spectrum(s: Subject) -> Measured:
    share = power_shares(s.weights.neuron_to_logit.T)[[k - 1 for k in s.freqs]].sum().item()
    text = f"{share:.1%} in the key frequencies {', '.join(map(str, s.freqs))}"
    return Measured(text, share, share >= 0.95)


def _attention_periodic(s: Subject) -> Measured:
    fit = head_fits(s.activations.attention)[0][0]
    fve = fit.fraction_of_variance_explained
    return Measured(f"frequency {fit.frequency}, {fve:.1%} explained", {"k": fit.frequency, "share": fve}, fve > 0.9)


def _neuron_periodic(s: Subject) -> Measured:
    k, share = int(s.neurons.frequency[0]), s.neurons.share[0].item()
    return Measured(f"frequency {k}, {share:.1%} explained", {"k": k, "share": share}, share > 0.85)


def _logit_components(s: Subject) -> Measured:
    norms = transform(s.activations.logits, s.basis).norm(dim=-1)
    norms[0, 0] = 0
    large = {(int(i), int(j)) for i, j in (norms > 0.3 * norms.max()).nonzero()}
    expected = {(i, j) for k in s.freqs for i in s.basis.components(k) for j in s.basis.components(k)}
    inside = len(large & expected)
    text = f"{len(large)} components, {inside} of them in the {len(expected)} of the {len(s.freqs)} key frequencies"
    return Measured(text, {"components": len(large), "expected": len(expected)}, large == expected)


def _map_rank(s: Subject) -> Measured:
    ratio = map_residual(s.weights.neuron_to_logit, s.freqs)
    text = f"{ratio:.2%} of the norm, {ratio**2:.2%} of its square, at rank {2 * len(s.freqs)}"
    return Measured(text, {"norms": ratio, "squares": ratio**2}, ratio**2 <= 0.01)


def _read_off(s: Subject) -> Measured:
    rows = read_off(s.activations.neurons, s.weights.neuron_to_logit, s.freqs)
    value = {row.label: row.fraction_of_variance_explained for row in rows}
    largest = ", ".join(f"{row.coefficients[0]:.1f} and {row.coefficients[1]:.1f} ({row.label})" for row in rows[:2])
    text = ", ".join(f"{label} {fve:.1%}" for label, fve in value.items()) + f"; amplitudes {largest}, ..."
    return Measured(text, value, min(value.values()) > 0.9)


def _cosines(s: Subject) -> Measured:
    fit = cosine_fit(s.activations.logits, s.answers, s.freqs)
    fve = fit.fraction_of_variance_explained
    alphas = ", ".join(f"{alpha:.1f} ({k})" for k, alpha in zip(fit.freqs, fit.coefficients, strict=True))
    return Measured(f"{fve:.1%}; coefficients {alphas}", {"share": fve, "alpha": list(fit.coefficients)}, fve >= 0.9)


def _neurons_explained(s: Subject) -> Measured:
    count, total = sum(len(c) for c in s.neurons.clusters().values()), len(s.neurons.share)
    text = f"{count} of {total} ({count / total:.1%}); median share {s.neurons.share.median().item():.1%}"
    return Measured(text, {"neurons": count, "of": total}, count > total / 2)


def _clusters(s: Subject) -> Measured:
    sizes = {k: len(cluster) for k, cluster in s.neurons.clusters().items()}
    none = len(s.neurons.share) - sum(sizes.values())
    text = ", ".join(f"{k}: {n}" for k, n in sizes.items()) + f"; none: {none}"
    return Measured(text, {**{str(k): n for k, n in sizes.items()}, "none": none}, set(s.freqs) <= set(sizes))


def _cluster_map(s: Subject) -> Measured:
    shares = {}
    for k in s.freqs:
        rows = s.weights.neuron_to_logit[s.neurons.cluster(k)]
        shares[k] = power_shares(rows.T)[k - 1].item()
    text = ", ".join(f"{k}: {share:.1%}" for k, share in shares.items())
    return Measured(text, {str(k): v for k, v in shares.items()}, min(shares.values()) >= 0.9)


def _ambiguous_cosine(s: Subject) -> Measured:
    printed = cos(2 * pi * 14 * 8 / 113)
    k, p = s.freqs[0], s.task.p
    wrong = max(range(1, p), key=lambda d: cos(2 * pi * k * d / p))
    text = f"{printed:.3f}; ours: cos(2 pi {k} * {wrong} / {p}) = {cos(2 * pi * k * wrong / p):.3f}"
    return Measured(text, printed, round(printed, 3) == 0.998)


def _head_fits(s: Subject) -> Measured:
    fits, _ = head_fits(s.activations.attention)
    rows = [(f.frequency, f.alpha, f.beta, f.fraction_of_variance_explained) for f in fits]
    text = "; ".join(f"head {h}: k={k}, alpha {a:+.3f}, beta {b:+.3f}, {v:.2%}" for h, (k, a, b, v) in enumerate(rows))
    return Measured(text, rows, min(row[3] for row in rows) > 0.95)


def _head_roles(s: Subject) -> Measured:
    share, k = head_spectra(s.weights.head_values).max(dim=1)
    rows = [(int(at) + 1, value) for at, value in zip(k, share.tolist(), strict=True)]
    text = "; ".join(f"head {h}: frequency {at} {value:.1%}" for h, (at, value) in enumerate(rows))
    return Measured(text, rows, max(value for _, value in rows) > 0.9)


STRUCTURE: dict[str, Measurement] = {
    "Q2": _embedding_spectrum,
    "Q3": _map_spectrum,
    "Q4": _attention_periodic,
    "Q5": _neuron_periodic,
    "Q6": _logit_components,
    "Q7": _map_rank,
    "Q8": _read_off,
    "Q9": _cosines,
    "Q11": _neurons_explained,
    "Q12": _clusters,
    "Q13": _cluster_map,
    "Q25": _ambiguous_cosine,
    "Q26": _head_fits,
    "Q28": _head_roles,
}
