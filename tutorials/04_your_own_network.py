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
# # 4. Your own network
#
# A checkpoint from elsewhere, another modulus, another operation, and a network without a circuit.
#
# In Colab, run this first (remove the `#`):

# %%
# # %pip install -q fourier-circuits

# %%
import tempfile
from pathlib import Path

import torch

import fourier_circuits as fc
from fourier_circuits.training.run import bundled_run

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A checkpoint from elsewhere
#
# You have a state dict: tensors by the names that TransformerLens gives them, in a `.pt` file. We make one, as somebody else would have:

# %%
somebodys = fc.Run.open(bundled_run()).model()
torch.save(somebodys.state_dict(), folder / "grokked.pt")

# %% [markdown]
# `load_model` recognises the layout from names and shapes. (A state dict of TransformerLens 4 does not say how many heads it has, so we say it.) Only tensors are ever loaded: a file that would run code is refused.

# %%
model = fc.load_model(folder / "grokked.pt", n_heads=4)
freqs = fc.key_frequencies(model)
print(freqs)
assert tuple(freqs) == (13, 25, 35)

# %% [markdown]
# ## Four ways to find frequencies
#
# **Question.** Does it depend on how one looks? Neurons, the map to the logits, the embedding, and the harm of removal are four different places.

# %%
by_rule = {
    rule: tuple(fc.key_frequencies(model, by=rule))
    for rule in ("neurons", "neuron_logit_map", "embedding", "excluded_loss")
}
for rule, found in by_rule.items():
    print(f"{rule}: {found}")
assert all(set(found) >= set(freqs) for found in by_rule.values())
assert by_rule["neurons"] == by_rule["neuron_logit_map"] == by_rule["excluded_loss"]

# %% [markdown]
# All agree on the three. Where rules disagree, look at `.evidence`.
#
# ## Another modulus, another operation
#
# We train a network to *subtract* modulo 31. Its circuit should turn with `a - b`.

# %%
config = fc.RunConfig(
    model=fc.ModelConfig.paper(p=31, d_mlp=256), operation="subtract", epochs=2500, train_fraction=0.7, weight_decay=3.0
)
*_, last = fc.train(config)
print(f"test accuracy {last.test_accuracy:.1%}")
assert last.test_accuracy > 0.9

# %%
subtraction = config.task()
subtracting = last.model()
found = fc.key_frequencies(subtracting, task=subtraction)
kept = fc.ablate(subtracting, found, keep=True, task=subtraction)
print(found)
print(kept)
assert found
assert kept.accuracy > 0.9

# %% [markdown]
# The task is an argument: `sum directions` then mean cos and sin of `w(a-b)`. **What if we ask for addition?** It must not work:

# %%
wrong = fc.ablate(subtracting, found, keep=True, task=fc.ModularAddition(31))
print(wrong)
assert wrong.accuracy < 0.2

# %% [markdown]
# ## No circuit
#
# A network that has only learned by heart: no weight decay, few pairs. **Prediction.** It has no key frequencies, and the tools say so rather than name some.

# %%
memoriser = fc.RunConfig(
    model=fc.ModelConfig.paper(p=31), epochs=1500, train_fraction=0.2, weight_decay=0.0, log_every=500
)
*_, by_heart = fc.train(memoriser)
print(f"train accuracy {by_heart.train_accuracy:.0%}, test accuracy {by_heart.test_accuracy:.1%}")
assert by_heart.train_accuracy == 1.0 and by_heart.test_accuracy < 0.2

# %%
nothing = fc.key_frequencies(by_heart.model())
print(nothing)
assert not nothing

# %% [markdown]
# And if we insist, with a frequency of our choice? Removing it costs next to nothing on the training pairs:

# %%
pairs = memoriser.task().split(memoriser.train_fraction, memoriser.seed)
insisted = fc.ablate(by_heart.model(), 5, train=pairs)
print(insisted.train)
assert insisted.train.accuracy > 0.95

# %% [markdown]
# That is what a negative result looks like. A network of more layers, with LayerNorm, or with a prompt of its own goes through the same calls: pass a `GridTask` that says which tokens stand for a pair, where the answer is read, and which logits are answers.
