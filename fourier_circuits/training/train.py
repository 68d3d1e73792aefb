"""The training loop: configurations in, checkpoints out. It knows no disk and prints nothing."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from fourier_circuits.model.factored import why_not_factored
from fourier_circuits.model.state import State, initial_state
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.training.config import CPU, Hardware, RunConfig
from fourier_circuits.training.engines import Engine, FactoredEngine, PlainEngine, Stack
from fourier_circuits.training.graph import GraphedStep

EngineName = str
""""auto", "factored" or "plain"; checked by `choose_engine`."""


SETTLED_OVER = 500
"""Epochs over which `has_grokked` looks at the weights."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model at one epoch, and all that is needed to train on from there."""

    config: RunConfig
    epoch: int
    """Updates made so far."""
    state: State
    """The weights, by `HookedTransformer`'s names."""
    moments: tuple[Tensor, Tensor]
    """AdamW's running means of the gradient and of its square, all trained parameters in one vector."""
    train_loss: float
    """At these weights, like the three below; over all logits, float64."""
    train_accuracy: float
    test_loss: float
    """NaN where no pair is left to test on."""
    test_accuracy: float
    squares: tuple[float, ...] = ()
    """Sum of squared weights at this and the earlier log points of the last `SETTLED_OVER` epochs."""
    passed_losses: tuple[float, ...] = ()
    """Training loss of every epoch since the checkpoint before; this epoch's own is `train_loss`."""
    stopped: str | None = None
    """Why the run ended here, if it did: "finished", "grokked", or "diverged at epoch N"."""

    def model(self) -> Any:
        """The weights as a `HookedTransformer`."""
        return build_transformer(self.config.model, state=self.state)


class DivergedError(RuntimeError):
    """The training loss is not finite any more; `last` is the last checkpoint before."""

    def __init__(self, last: Checkpoint) -> None:
        super().__init__(
            f"training {last.stopped}: the loss is not finite; the learning rate {last.config.learning_rate:g} "
            f"is the likely cause, try a smaller one; everything up to epoch {last.epoch} is kept"
        )
        self.last = last


def choose_engine(config: RunConfig, engine: EngineName = "auto") -> str:
    """`auto` is the factored engine wherever it is exact, else the plain one.

    Raises:
        ValueError: the factored engine is asked for where it is not exact, or the name is unknown.
    """
    if engine not in ("auto", "factored", "plain"):
        raise ValueError(f"engine must be 'auto', 'factored' or 'plain', got {engine!r}")
    reason = why_not_factored(config.model, config.task())
    if engine == "factored" and reason is not None:
        raise ValueError(f"the factored engine cannot train this model: {reason}; use engine='plain'")
    return "plain" if engine == "plain" or reason is not None else "factored"


def has_grokked(checkpoint: Checkpoint) -> bool:
    """The criterion of `until="grokked"`: every test pair right, and cleanup all but over.

    That is, where the sum of squared weights falls by less than 5% in `SETTLED_OVER` epochs. The paper's own run meets
    it near epoch 12,100 (read off its figure), where it draws the end of cleanup at 14,000 by eye.
    """
    squares, window = checkpoint.squares, _window(checkpoint.config)
    return checkpoint.test_accuracy == 1.0 and len(squares) == window and squares[-1] > 0.95 * squares[0]


def _window(config: RunConfig) -> int:
    """How many log points `Checkpoint.squares` holds."""
    return SETTLED_OVER // config.log_every + 1


class _Batch:
    """Runs of one shape at one epoch, advancing together."""

    def __init__(
        self, configs: Sequence[RunConfig], engine: EngineName, start: Sequence[Checkpoint] | None, hardware: Hardware
    ) -> None:
        self.configs = list(configs)
        self.epoch = start[0].epoch if start else 0
        task = configs[0].task()
        self.train_masks = [task.split(c.train_fraction, c.seed) for c in configs]
        states = [c.state for c in start] if start else [initial_state(c.model, c.seed) for c in configs]
        self.stack = Stack(self.configs, states, hardware.device)
        self.on_gpu = hardware.device == "cuda"
        self.optimizer = self._optimizer(start)
        self.engine: Engine
        if choose_engine(configs[0], engine) == "factored":
            self.engine = FactoredEngine(self.stack, self.configs, task, self.train_masks, hardware.compiled)
        else:
            self.engine = PlainEngine(self.stack, self.configs, task, self.train_masks)
        graphed = self.on_gpu and isinstance(self.engine, FactoredEngine)
        self.step = GraphedStep(self.engine.backward, self.optimizer) if graphed else self._step

    def _optimizer(self, start: Sequence[Checkpoint] | None) -> torch.optim.AdamW:
        """One parameter group for each stretch of runs with the same hyper-parameters."""
        flat, gradient = self.stack.flat, self.stack.gradient
        groups, row = [], 0
        for (rate, decay, betas), members in groupby(
            self.configs, key=lambda c: (c.learning_rate, c.weight_decay, c.betas)
        ):
            rows = slice(row, row + len(list(members)))
            parameter = flat[rows]
            parameter.grad = gradient[rows]
            rate = torch.tensor(rate, device=flat.device) if self.on_gpu else rate
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay, "betas": betas, "rows": rows})
            row = rows.stop
        optimizer = torch.optim.AdamW(groups, eps=1e-8, fused=True, capturable=self.on_gpu)
        for group in optimizer.param_groups if start else []:
            mean, square = (
                torch.stack([c.moments[i] for c in (start or [])[group["rows"]]]).to(flat.device) for i in (0, 1)
            )  # fmt: skip
            steps = torch.tensor(float(self.epoch), device=flat.device)
            optimizer.state[group["params"][0]] = {"step": steps, "exp_avg": mean, "exp_avg_sq": square}
        return optimizer

    def _moments(self) -> list[tuple[Tensor, Tensor]]:
        """AdamW's state of each run, in main memory."""
        found: list[tuple[Tensor, Tensor]] = []
        for group in self.optimizer.param_groups:
            (parameter,) = group["params"]
            state = self.optimizer.state[parameter]
            nothing = torch.zeros_like(parameter)
            means, squares = (state.get(name, nothing).cpu() for name in ("exp_avg", "exp_avg_sq"))
            found += [(mean.clone(), square.clone()) for mean, square in zip(means, squares, strict=True)]
        return found

    def _step(self) -> Tensor:
        losses = self.engine.backward()
        self.optimizer.step()
        return losses

    def advance(self, epochs: int) -> Tensor:
        """Make so many updates; the losses before each of them, (epoch, run)."""
        losses = []
        for _ in range(epochs):
            for group, config in zip(self.optimizer.param_groups, self._leaders(), strict=True):
                rate = config.learning_rate * min(self.epoch / config.warmup, 1)
                group["lr"] = group["lr"].fill_(rate) if self.on_gpu else rate
            losses.append(self.step())
            self.epoch += 1
        return torch.stack(losses).cpu() if losses else torch.zeros(0, len(self.configs), dtype=torch.float64)

    def _leaders(self) -> list[RunConfig]:
        return [self.configs[group["rows"].start] for group in self.optimizer.param_groups]

    def checkpoints(self, passed: Tensor) -> list[Checkpoint]:
        """Every run as it stands, with the losses that it passed on the way."""
        train_loss, train_accuracy = self.engine.evaluate(self.train_masks)
        if all(mask.all() for mask in self.train_masks):
            test_loss = test_accuracy = torch.full_like(train_loss, torch.nan)
        else:
            test_loss, test_accuracy = self.engine.evaluate([~mask for mask in self.train_masks])
        states, moments = self.stack.states(), self._moments()
        squares = self.stack.flat.detach().double().square().sum(dim=1).tolist()
        return [
            Checkpoint(
                config=config,
                epoch=self.epoch,
                state=states[run],
                moments=moments[run],
                train_loss=train_loss[run].item(),
                train_accuracy=train_accuracy[run].item(),
                test_loss=test_loss[run].item(),
                test_accuracy=test_accuracy[run].item(),
                squares=(squares[run],),
                passed_losses=tuple(passed[:, run].tolist()),
            )
            for run, config in enumerate(self.configs)
        ]


def train_many(
    configs: Sequence[RunConfig],
    engine: EngineName = "auto",
    until: str = "finished",
    resume_from: Sequence[Checkpoint] | None = None,
    hardware: Hardware = CPU,
) -> Generator[list[Checkpoint]]:
    """Train runs of one shape together; yields a checkpoint of each run still in the batch at every log point.

    A run leaves the batch with a checkpoint whose `stopped` says why; the others train on. Weights are those of
    runs trained one by one, up to rounding.

    Args:
        configs: alike in model, operation, epochs, loss_dtype, log_every and warmup; each with its own seed, fraction
            of training pairs, weight decay, learning rate and betas. Runs with equal hyper-parameters are best put side
            by side; a run with fewer pairs than another takes as long as that one.
        engine: "factored" (exact and several times faster, for one-layer models), "plain", or "auto".
        until: "grokked" ends a run early, when `has_grokked`.
        resume_from: one checkpoint per run, all of one epoch, to go on from; they are not yielded again.
        hardware: the device, and whether to compile.

    Raises:
        ValueError: configurations that cannot share a batch.
    """
    if until not in ("finished", "grokked"):
        raise ValueError(f"until must be 'finished' or 'grokked', got {until!r}")
    shapes = {(c.model, c.operation, c.epochs, c.loss_dtype, c.log_every, c.warmup) for c in configs}
    if len(shapes) != 1:
        raise ValueError(
            f"runs in one batch must agree in model, operation, epochs, loss_dtype, log_every and warmup; "
            f"got {len(shapes)} different combinations for {len(configs)} runs"
        )
    last = list(resume_from or ())
    torch.backends.cuda.matmul.allow_tf32 = hardware.tf32
    batch = _Batch(configs, engine, last or None, hardware)
    total, every = configs[0].epochs, configs[0].log_every
    if not last:
        last = batch.checkpoints(torch.zeros(0, len(configs)))
        yield last
    while batch.epoch < total:
        start = batch.epoch
        passed = batch.advance(min(every - start % every, total - start))
        reached = batch.checkpoints(passed)
        for run, checkpoint in enumerate(reached):
            squares = (*last[run].squares, *checkpoint.squares)[-_window(checkpoint.config) :]
            checkpoint = reached[run] = replace(checkpoint, squares=squares)
            finite = passed[:, run].isfinite()
            if not (finite.all() and torch.isfinite(torch.tensor(checkpoint.train_loss))):
                epoch = start + int(finite.long().cumprod(0).sum())
                reached[run] = replace(last[run], passed_losses=(), stopped=f"diverged at epoch {epoch}")
            elif batch.epoch == total:
                reached[run] = replace(checkpoint, stopped="finished")
            elif until == "grokked" and has_grokked(checkpoint):
                reached[run] = replace(checkpoint, stopped="grokked")
        yield reached
        last = [checkpoint for checkpoint in reached if checkpoint.stopped is None]
        if not last:
            return
        if len(last) < len(reached):
            batch = _Batch([checkpoint.config for checkpoint in last], engine, last, hardware)


def train(
    config: RunConfig,
    engine: EngineName = "auto",
    until: str = "finished",
    resume_from: Checkpoint | None = None,
    hardware: Hardware = CPU,
) -> Generator[Checkpoint]:
    """Train one model; yields a checkpoint at epoch 0, every `config.log_every` epochs, and at the last.

    Arguments as in `train_many`.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    for (checkpoint,) in train_many([config], engine, until, [resume_from] if resume_from else None, hardware):
        if checkpoint.stopped and checkpoint.stopped.startswith("diverged"):
            raise DivergedError(checkpoint)
        yield checkpoint
