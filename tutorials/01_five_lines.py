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
# # 1. Five lines
#
# A network has learned to add modulo 113. Does it compute with rotations, and can we prove it by taking them away?
#
# In Colab, run this first (remove the `#`):

# %%
# # %pip install -q fourier-circuits

# %% [markdown]
# ## Load it
#
# The package brings a trained run along: the paper's settings, seed 0. It is a one-layer transformer that reads `a b =` and answers with `a + b mod 113`. It was trained on 30% of all pairs.

# %%
import fourier_circuits as fc
from fourier_circuits.figures import spectra
from fourier_circuits.training.run import bundled_run

run = fc.Run.open(bundled_run())
model = run.model()

# %% [markdown]
# ## Which frequencies does it use?
#
# **Prediction.** If it adds by rotating, its neurons must be waves in `a` and `b`, of a few frequencies out of the 56 that exist modulo 113.

# %%
freqs = fc.key_frequencies(model)
freqs

# %%
assert tuple(freqs) == (13, 25, 35)
assert len(freqs) < 56 / 10, "a few out of 56"

# %% [markdown]
# The object is a tuple of integers that carries its evidence: for every frequency, how many neurons turn with it.

# %%
freqs.evidence.sort_values("neurons", ascending=False).head(5)

# %%
assert set(freqs.evidence.sort_values("neurons", ascending=False).head(3).index) == set(freqs)

# %% [markdown]
# ## Take them away
#
# **Prediction.** Without these frequencies nothing is left: the loss rises above `ln 113 = 4.73`, that of a uniform guess.

# %%
without = fc.ablate(model, freqs, train=run.train_pairs)
without

# %%
assert without.loss > 4.73
assert without.baseline_loss < 1e-6

# %% [markdown]
# Worse than guessing, on the pairs that it was trained on too. And the opposite: keep these three frequencies, and take *everything else* away.

# %%
only = fc.ablate(model, freqs, keep=True)
only

# %%
assert only.loss < only.baseline_loss, "better than the whole network"
assert only.accuracy == 1.0

# %% [markdown]
# Three frequencies of 56 are the network. The rest is noise that it is better off without.
#
# ## Look
#
# Each frequency, removed by itself. Three points should stand far above a flat line.

# %%
everyone = fc.ablate(model, range(1, 57), each=True)
losses = {ablation.freqs[0]: ablation.loss for ablation in everyone.each}
fig = spectra.frequency_ablation(losses, only.baseline_loss, only.loss, freqs)
fig

# %%
assert sorted(losses, key=losses.get)[-3:] == sorted(freqs, key=losses.get)
assert all(abs(losses[k] / only.baseline_loss - 1) < 0.1 for k in losses if k not in freqs)

# %% [markdown]
# They do. The next notebook shows what the network does with them.
