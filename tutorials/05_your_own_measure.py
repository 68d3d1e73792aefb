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
# # 5. Your own measure
#
# You have an idea for a progress measure. Five steps from the idea to a curve that you can trust.
#
# In Colab, run this first (remove the `#`):

# %%
# # %pip install -q fourier-circuits

# %%
import pandas as pd
import plotly.graph_objects as go
import torch

import fourier_circuits as fc
from fourier_circuits.analysis.frequencies import component_norms
from fourier_circuits.figures.style import titled
from fourier_circuits.training.run import bundled_run

# %% [markdown]
# ## The idea
#
# How many frequencies does the embedding *really* use? Counting needs a threshold. The **participation ratio** needs none: with shares `s_k` of the power, `1 / sum s_k^2` is 56 if all frequencies share equally, and 3 if three share and the others have none.
#
# ## Step 1. The arithmetic, as a function of arrays
#
# Not of a model: then it can be tested on anything.


# %%
def frequencies_in_use(matrix: torch.Tensor) -> float:
    """Participation ratio of the power over frequencies, of a matrix whose first axis is a residue."""
    basis = fc.fourier_basis(matrix.shape[0])
    power = basis.summed_per_frequency(component_norms(matrix).square())
    share = power / power.sum()
    return (1 / share.square().sum()).item()


# %% [markdown]
# ## Step 2. A case where you know the answer
#
# A matrix with exactly two waves; one with noise alone. **Prediction.** 2, and nearly 56.

# %%
basis = fc.fourier_basis(113)
two_waves = basis.vectors[[i for k in (7, 20) for i in basis.components(k)]].T
noise = torch.randn(113, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
print(frequencies_in_use(two_waves), frequencies_in_use(noise))
assert abs(frequencies_in_use(two_waves) - 2) < 1e-9
assert frequencies_in_use(noise) > 50

# %% [markdown]
# A measure that cannot fail measures nothing. Shifting the numbers around a circle must not change it; shuffling them must.

# %%
assert abs(frequencies_in_use(two_waves.roll(5, dims=0)) - 2) < 1e-9
shuffled = two_waves[torch.randperm(113, generator=torch.Generator().manual_seed(1))]
assert frequencies_in_use(shuffled) > 20

# %% [markdown]
# ## Step 3. Every checkpoint of a run

# %%
run = fc.Run.open(bundled_run())
rows = {}
for epoch, model in run.checkpoints():
    weights = fc.read_weights(model)
    rows[epoch] = {
        "embedding": frequencies_in_use(weights.embed),
        "neuron-logit map": frequencies_in_use(weights.neuron_to_logit.T),
    }
ours = pd.DataFrame.from_dict(rows, orient="index")
ours.iloc[[0, -1]]

# %%
assert ours["embedding"].iloc[0] > 50
assert ours["neuron-logit map"].iloc[-1] < 4

# %% [markdown]
# It starts at noise, and ends near the number of key frequencies, which is 3.
#
# ## Step 4. Beside what is known
#
# **Question.** Does it move before the test loss does?

# %%
known = run.measures()
fig = go.Figure()
for name, values in ours.items():
    fig.add_scatter(x=ours.index.to_numpy(), y=values.to_numpy(), mode="lines+markers", name=name)
fig.update_xaxes(title="epoch").update_yaxes(title="frequencies in use", rangemode="tozero")
titled(
    fig,
    f"From {ours['embedding'].iloc[0]:.0f} frequencies to {ours['neuron-logit map'].iloc[-1]:.1f}",
    380,
    legend=True,
)

# %%
halved = ours.index[ours["neuron-logit map"] < 28][0]
test_falls = known.index[(known["test_loss"] < 1) & (known.index > 500)][0]
print(f"half of the frequencies are gone at epoch {halved:,}; the test loss falls below 1 at {test_falls:,}")
assert halved < test_falls

# %% [markdown]
# It does: sparsity in Fourier space is another early sign. (The Gini coefficient of the paper says the same with another formula; it is in `run.measures()` as `gini_W_E` and `gini_W_L`.)

# %%
together = known.loc[ours.index, "gini_W_L"].rank().corr(ours["neuron-logit map"].rank())
print(f"rank correlation with the Gini coefficient: {together:.2f}")
assert together < -0.8

# %% [markdown]
# ## Step 5. Give it to others
#
# Add the function to `analysis/`, its row to `checkpoint_measures`, its planted case to the tests, and its formula to `docs/definitions.md`: CONTRIBUTING says where. Then every run measures it.
