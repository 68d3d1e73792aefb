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
# # 3. Under the plateau
#
# For thousands of steps the test loss says that nothing happens. Two other losses say what does.
#
# In Colab, run this first (remove the `#`):

# %%
# # %pip install -q fourier-circuits

# %%
import fourier_circuits as fc
from fourier_circuits.analysis.progress import ProgressMeasures
from fourier_circuits.figures import training
from fourier_circuits.training.run import bundled_run

run = fc.Run.open(bundled_run())
losses = run.losses()
training.accuracy_and_loss(losses)

# %% [markdown]
# The network knows the training pairs after about 150 steps, by heart. On the other pairs it is far worse than guessing, for thousands of steps; then it understands, suddenly. This is *grokking*.
#
# **Question.** Is it sudden?

# %%
logged = losses.dropna()
memorised = logged.index[logged["train_accuracy"] == 1][0]
understood = logged.index[logged["test_accuracy"] >= 0.99][0]
print(f"training pairs known at epoch {memorised:,}, test pairs at {understood:,}")
assert understood > 20 * memorised
assert losses.loc[1000, "test_loss"] > 2 * losses.loc[0, "test_loss"], "worse than at the start"

# %% [markdown]
# ## Two measures
#
# We know the circuit of the final network: its key frequencies. At every checkpoint we ask two things.
#
# - **Restricted loss**: keep *only* those frequencies in the logits. It falls as the circuit comes to suffice.
# - **Excluded loss**: take those frequencies *away*, and look at the training pairs. It rises as the network comes to rely on the circuit, rather than on its memory.
#
# **Prediction.** If the circuit grows slowly and the memory hides it, both must move long before the test loss.

# %%
freqs = fc.key_frequencies(run.model())
measures = ProgressMeasures(run.measures(), tuple(freqs))
found = fc.phases(measures)
training.progress(measures, found)

# %%
frame = measures.frame
restricted_moves = frame.index[frame["restricted_loss"] < 1][0]
excluded_moves = frame.index[(frame["excluded_loss"] > 10 * frame["excluded_loss"].min()) & (frame.index > 500)][0]
test_moves = frame.index[(frame["test_loss"] < 1) & (frame.index > 500)][0]
print(f"excluded loss at {excluded_moves:,}, restricted loss at {restricted_moves:,}, test loss at {test_moves:,}")
assert excluded_moves < restricted_moves < test_moves
assert test_moves - restricted_moves > 2000

# %% [markdown]
# They do, by thousands of steps. What looks like a jump is the end of a long growth.
#
# ## Three phases
#
# The shaded stretches: **memorisation** (the excluded loss falls with the training loss: no circuit yet), **circuit formation** (the restricted loss falls, the test loss does not: circuit and memory side by side), **cleanup** (weight decay removes the memory; now the test loss falls).

# %%
print(found)
assert found.memorisation_ends < found.circuit_formation_ends < found.cleanup_ends
weights = frame["squares_total"]
drop = weights[found.circuit_formation_ends] - weights[found.cleanup_ends]
print(f"cleanup removes {drop / weights[found.circuit_formation_ends]:.0%} of the squared weights")
assert drop > 0.3 * weights[found.circuit_formation_ends]

# %% [markdown]
# The order of the key frequencies, too, can be seen: how much of each cosine is in the logits.

# %%
training.cosine_coefficients(measures)

# %%
halfway = frame[[f"cosine_{k}" for k in range(1, 57)]].loc[3000].abs()
assert set(halfway.sort_values().index[-3:]) == {f"cosine_{k}" for k in freqs}, "at 3,000 they stand out already"

# %% [markdown]
# ## One of your own
#
# With a small modulus this takes seconds. Modulo 31, half of the pairs, and twice the weight decay, which hurries cleanup:

# %%
config = fc.RunConfig(
    model=fc.ModelConfig.paper(p=31, d_mlp=256), epochs=2500, train_fraction=0.5, weight_decay=2.0, log_every=50
)
checkpoints = list(fc.train(config))
small = checkpoints[-1]
print(f"epoch {small.epoch}: train loss {small.train_loss:.2g}, test loss {small.test_loss:.2g}")
assert small.train_accuracy == 1.0 and small.test_accuracy > 0.95

# %%
small_freqs = fc.key_frequencies(small.model())
train_pairs = config.task().split(config.train_fraction, config.seed)
own = fc.progress_measures(((c.epoch, c.model()) for c in checkpoints), freqs=small_freqs, train=train_pairs)
training.progress(own, fc.phases(own))

# %%
own_frame = own.frame
first = own_frame.index[own_frame["restricted_loss"] < 0.1][0]
later = own_frame.index[(own_frame["test_loss"] < 0.1) & (own_frame.index > 100)][0]
print(f"frequencies {tuple(small_freqs)}; restricted loss below 0.1 at {first:,}, test loss at {later:,}")
assert first < later

# %% [markdown]
# The same story, in seconds: the circuit is there before the test loss knows.
