# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. The whole algorithm
#
# How does a network add? You need no Fourier analysis to follow this: only that a point on a circle has two coordinates, a cosine and a sine.
#
# In Colab, run this first (remove the `#`):

# %%
# # %pip install -q fourier-circuits

# %%
import torch

import fourier_circuits as fc
from fourier_circuits.analysis.circuit import cosine_fit, embedding_planes, head_fits, on_planes, read_off
from fourier_circuits.analysis.frequencies import component_norms, neuron_frequencies, neuron_phases
from fourier_circuits.analysis.losses import full_loss
from fourier_circuits.figures import circuit, grids, spectra
from fourier_circuits.training.run import bundled_run

run = fc.Run.open(bundled_run())
model = run.model()
freqs = fc.key_frequencies(model)
activations, weights = fc.read_activations(model), fc.read_weights(model)
answers = fc.ModularAddition(113).answers

# %% [markdown]
# ## The idea: a clock
#
# On a clock with 113 hours, adding `b` hours means turning the hand. Turn by `a` steps, then by `b`: the hand stands at `a + b mod 113`, whatever the number of rounds. *Modulo* comes for free, because a circle closes.
#
# The hand need not go one hour per step. With *frequency* k it goes k hours per step: the number `n` stands at angle `w n`, with `w = 2 pi k / 113`. Its place is `(cos wn, sin wn)`.
#
# To add with such hands a network must do four things: put the numbers on circles; bring `a` and `b` together; turn two angles into their sum; read the answer off. We look for each of them, and break each to see whether it matters.
#
# ## Step 1: numbers on circles
#
# **Question.** Each number enters as a vector of 128 weights. Where do the circles hide?
#
# **Prediction.** Along two well chosen directions the 113 vectors lie on a circle, for each frequency that the network uses.

# %%
planes = embedding_planes(weights.embed, freqs)
places = on_planes(weights.embed, planes)
circuit.circles({run.epochs[-1]: places}, freqs)

# %% [markdown]
# Each colour is an angle. The points stand on rings, in the order of their angles. How round are they? The distance from the centre should hardly vary.

# %%
radius = places.norm(dim=-1)
spread = (radius.std(dim=1) / radius.mean(dim=1)).tolist()
print({k: f"{value:.1%}" for k, value in zip(freqs, spread, strict=True)})
assert max(spread) < 0.15

# %% [markdown]
# **Break it.** We remove these frequencies from the embedding alone, and let the rest of the network run.

# %%
broken = fc.ablate(model, freqs, at="embed")
print(broken)
assert broken.accuracy < 0.1

# %% [markdown]
# And the opposite: only the circles, nothing else of the embedding. Accuracy should survive.

# %%
circles_only = fc.ablate(model, freqs, at="embed", keep=True)
print(circles_only)
assert circles_only.accuracy > 0.95

# %% [markdown]
# ## Step 2: attention brings `a` and `b` together
#
# At the position of `=` each head looks back at `a` and `b`, and copies what it finds. How much it looks at `a` rather than `b` depends on both numbers.
#
# **Prediction.** That too is a wave of few frequencies. We fit each head's attention by one frequency, and ask how much of its *variance* the fit explains: 100% means that the fit is the whole story, 0% that a constant would do as well.

# %%
fits, _ = head_fits(activations.attention)
for head, fit in enumerate(fits):
    print(f"head {head}: frequency {fit.frequency}, {fit.fraction_of_variance_explained:.1%} of the variance")
assert {fit.frequency for fit in fits} <= set(freqs)

# %%
grids.attention(activations.attention, fits)

# %% [markdown]
# Every head's best frequency is one of the key frequencies, and you see the plaid that a wave in `a` minus a wave in `b` makes. (In the paper each head is explained to 98%; this seed's heads mix two of the key frequencies.)
#
# **Break it.** Without these frequencies in what attention writes:

# %%
no_attention = fc.ablate(model, freqs, at="attn_out")
print(no_attention)
assert no_attention.loss > 4.73

# %% [markdown]
# ## Step 3: neurons multiply
#
# So far there are waves of `a` and waves of `b`, side by side. The sum of angles needs products:
#
# `cos w(a+b) = cos wa cos wb - sin wa sin wb`
#
# `sin w(a+b) = sin wa cos wb + cos wa sin wb`
#
# A neuron cannot multiply, but it can bend: `ReLU(x) = max(0, x)`. Bending a sum of two waves makes products of them.
#
# **Prediction.** Most neurons belong to one frequency: constants, waves and products of that one frequency explain nearly all their variance.

# %%
found = neuron_frequencies(activations.neurons)
circuit.neuron_shares(found)

# %%
pure = (found.share > 0.85).double().mean().item()
print(f"{pure:.0%} of the neurons are explained to more than 85% by one frequency")
assert pure > 0.6
assert set(found.clusters()) >= set(freqs)

# %% [markdown]
# Look at three of them, over all pairs. A neuron of frequency k repeats k times along each side.

# %%
grids.cluster_neurons(activations.neurons, found)

# %% [markdown]
# Each neuron of a frequency fires for its own phase: its own direction of the hand. Together they cover the whole circle, as they must if the network is to write cosine *and* sine.

# %%
phases = neuron_phases(activations.neurons, found)
for k in freqs:
    members = found.cluster(k)
    centre = torch.polar(torch.ones(len(members), dtype=torch.float64), phases[members]).mean().abs().item()
    print(f"frequency {k}: {len(members)} neurons, mean direction {centre:.2f} (0: spread evenly, 1: all alike)")
    assert centre < 0.5
circuit.neuron_map(found, phases, freqs)

# %% [markdown]
# **Break it.** We keep only `cos w(a+b)` and `sin w(a+b)` in every neuron: two numbers per frequency, of all that a neuron says. If step 3 is right, this must be enough.

# %%
sums_only = fc.ablate(model, freqs, at="mlp_post", keep=True)
no_sums = fc.ablate(model, freqs, at="mlp_post")
print(sums_only)
print(no_sums)
assert sums_only.accuracy > 0.99
assert no_sums.accuracy < 0.1

# %% [markdown]
# ## Step 4: the read-off
#
# The matrix `W_L` says how each neuron moves each answer's logit (the score that an answer gets).
#
# **Prediction.** As a function of the answer `c` it is made of waves of the key frequencies, and of nothing else.

# %%
norms = {"W_L: components over answers": component_norms(weights.neuron_to_logit.T)}
spectra.spectra(norms, freqs)

# %%
power = component_norms(weights.neuron_to_logit.T).square()
basis = fc.fourier_basis(113)
key = [i for k in freqs for i in basis.components(k)]
print(f"{(power[key].sum() / power[1:].sum()).item():.1%} of its power")
assert power[key].sum() > 0.98 * power[1:].sum()

# %% [markdown]
# And what it reads along those waves should be `cos w(a+b)` and `sin w(a+b)`:

# %%
for row in read_off(activations.neurons, weights.neuron_to_logit, freqs):
    print(f"{row.label}: {row.fraction_of_variance_explained:.1%} explained by one wave of a+b")
    assert row.fraction_of_variance_explained > 0.75

# %% [markdown]
# So the logit of `c` gets `cos w(a+b) cos wc + sin w(a+b) sin wc`, which is `cos w(a+b-c)`: largest, 1, where `c = a+b`.
#
# ## Why several frequencies?
#
# One cosine is nearly as large at a few wrong answers. Several cosines agree at one place only.

# %%
fit = cosine_fit(activations.logits, answers, freqs)
circuit.interference(fit)

# %% [markdown]
# **The final test.** We throw the network's logits away, and put in their place three cosines with one number each.

# %%
print(f"{fit.fraction_of_variance_explained:.1%} of the logits' variance; coefficients {fit.coefficients}")
cosines, whole = full_loss(fit.logits, answers), full_loss(activations.logits, answers)
print(f"loss of the network {whole:.3g}, of three cosines {cosines:.3g}")
assert fit.fraction_of_variance_explained > 0.9
assert cosines < whole

# %% [markdown]
# The three cosines are *better* than the network that we took them from. What they leave out, 7% of the logits' variance, is not part of the algorithm; it is in its way.
#
# A network of 226,816 weights, and inside it a formula of one line: `sum of alpha_k cos w_k (a + b - c)`.
