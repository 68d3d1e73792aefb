"""`make bench`: one table. `python -m benchmarks --quick` measures less often."""

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import dull
from fourier_circuits import ModelConfig, Run, RunConfig, key_frequencies
from fourier_circuits.analysis.frequencies import key_by_neurons
from fourier_circuits.analysis.progress import checkpoint_measures
from fourier_circuits.model.read import read_activations, read_logits, read_weights
from fourier_circuits.model.state import initial_state
from fourier_circuits.training.engines import FactoredEngine, PlainEngine, Stack
from fourier_circuits.training.run import bundled_run

REPEATS = 3 if "--quick" in sys.argv else 15
MEMORY = """
import resource, sys
from fourier_circuits import ModelConfig, RunConfig
from fourier_circuits.training.train import train
for _ in train(RunConfig(epochs=5, log_every=5), engine=sys.argv[1]):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

Work = Callable[[], object]


def in_turns(*works: Work, repeats: int = REPEATS, in_a_row: int = 1) -> list[float]:
    """The median seconds of each piece of work, all of them measured in turns after a warm-up.

    Training makes one step after the other, so a turn of it is several: the first finds the other's data in the caches.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, times in zip(works, seconds, strict=True):
            for _ in range(in_a_row):
                start = time.perf_counter()
                work()
                if turn:
                    times.append(time.perf_counter() - start)
    return [median(times) for times in seconds]


def step(config: RunConfig, kind: type) -> Work:
    """One training step: loss, gradients, update."""
    task = config.task()
    stack = Stack([config], [initial_state(config.model, config.seed)])
    engine = kind(stack, [config], task, [task.split(config.train_fraction, config.seed)])
    stack.flat.grad = stack.gradient
    optimizer = torch.optim.AdamW([stack.flat], lr=1e-3, weight_decay=1.0, betas=config.betas, fused=True)

    def work() -> None:
        engine.backward()
        optimizer.step()

    return work


def floor(config: RunConfig) -> Work:
    """The step's large matrix products alone, into memory that is already there."""
    model = config.model
    pairs = int(config.train_fraction * model.p**2)
    z_width, hidden, out = model.n_heads * model.d_head, model.d_mlp, model.d_vocab_out
    shapes = []
    for rows, inner, columns in ((pairs, z_width, hidden), (pairs, hidden, out), (pairs, z_width, out)):
        shapes += [(rows, inner, columns), (rows, columns, inner), (inner, rows, columns)]
    products = [(torch.randn(n, m), torch.randn(m, k), torch.empty(n, k)) for n, m, k in shapes]

    def work() -> None:
        for left, right, result in products:
            torch.mm(left, right, out=result)

    return work


def rows() -> list[tuple[str, float, str, float]]:
    """(what, seconds, baseline, seconds of the baseline)."""
    paper = RunConfig()
    table = []
    factored, plain = in_turns(step(paper, FactoredEngine), step(paper, PlainEngine), in_a_row=5)
    table.append(("training step, p=113, 30%", factored, "HookedTransformer loop", plain))
    for p in (53, 113, 211, 401):
        config = RunConfig(model=ModelConfig.paper(p=p))
        works = step(config, FactoredEngine), floor(config)
        ours, least = in_turns(*works, repeats=3, in_a_row=2) if p > 200 else in_turns(*works, in_a_row=5)
        table.append((f"training step, p={p}, 30%", ours, "its matrix products alone", least))
    for fraction in (0.1, 0.5, 0.9):
        config = RunConfig(train_fraction=fraction)
        ours, base = in_turns(step(config, FactoredEngine), step(paper, FactoredEngine), in_a_row=5)
        table.append((f"training step, p=113, {fraction:.0%}", ours, "at 30%", base))

    run = Run.open(bundled_run())
    model, task, train = run.model(), run.task, run.train_pairs
    activations, answers = read_activations(model), task.answers
    freqs = key_frequencies(activations)
    neurons, logits = activations.neurons.numpy(), activations.logits.numpy()

    def measures() -> None:
        checkpoint_measures(read_logits(model, task), read_weights(model, task), answers, freqs, train)

    (ours,) = in_turns(measures)
    (base,) = in_turns(lambda: dull.losses(logits, answers.numpy(), list(freqs), train.numpy()), repeats=1)
    table.append(("all progress measures of a checkpoint", ours, "its losses in loops", base))
    (ours,) = in_turns(lambda: key_by_neurons(activations.neurons))
    (base,) = in_turns(lambda: dull.key_frequencies(neurons), repeats=1)
    table.append(("key frequencies, activations given", ours, "neuron by neuron", base))
    return table


def memory(engine: str) -> float:
    """Peak gigabytes of a fresh process that trains for five epochs, libraries included."""
    done = subprocess.run([sys.executable, "-c", MEMORY, engine], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e6


def main() -> None:
    """Measure and print."""
    table = Table("what", "ours", "baseline", "it takes", "ours / baseline", "faster")
    # First, while this process is small: a child's peak starts at the size of its parent.
    used, base_used = memory("factored"), memory("plain")
    for what, ours, baseline, base in rows():
        faster = f"{base / ours:.1f} times" if base > ours else ""
        table.add_row(what, f"{ours * 1e3:.1f} ms", baseline, f"{base * 1e3:.1f} ms", f"{ours / base:.2f}", faster)
    peak = (f"{used:.2f} GB", "HookedTransformer loop", f"{base_used:.2f} GB", f"{used / base_used:.2f}", "")
    table.add_row("peak memory of training", *peak)
    Console(width=150).print(table)
    print("medians, measured in turns; a turn of training is five steps (two beyond p=200)")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
