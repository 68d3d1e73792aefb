"""Two ways to the same losses and gradients, for a stack of runs of one shape.

The trained parameters of all runs live in one (run, parameter) matrix. Every named weight is a view into it,
and a transformer that trains there is called with these views as its parameters.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import functional_call

from fourier_circuits.model import factored
from fourier_circuits.model.state import State, is_trained, parameter_shapes
from fourier_circuits.model.transformer import build_transformer, native_parameters
from fourier_circuits.task import GridTask
from fourier_circuits.training.config import RunConfig


class Stack:
    """The weights of several runs of one shape: `flat` is what the optimiser sees, `weights` what a model sees."""

    def __init__(self, configs: Sequence[RunConfig], states: Sequence[State], device: str = "cpu") -> None:
        model = configs[0].model
        trained = {name: shape for name, shape in parameter_shapes(model).items() if is_trained(name, model)}
        rows = [torch.cat([state[name].reshape(-1) for name in trained]) for state in states]
        self.flat = torch.stack(rows).to(device)
        self.gradient = torch.zeros_like(self.flat)
        self.weights: State = {}
        """Every parameter with a leading axis of runs; the trained ones are leaves of autograd."""
        self.gradients: State = {}
        """For each trained parameter, its place in `gradient`."""
        for name in parameter_shapes(model):
            if name not in trained:
                self.weights[name] = torch.stack([state[name] for state in states]).to(device)
        start = 0
        for name, shape in trained.items():
            end = start + prod(shape)
            self.weights[name] = self.flat[:, start:end].view(-1, *shape).requires_grad_()
            self.gradients[name] = self.gradient[:, start:end].view(-1, *shape)
            start = end

    def states(self) -> list[State]:
        """A copy of every run's weights, in main memory."""
        kept = {name: weight.detach().cpu() for name, weight in self.weights.items()}
        return [{name: weight[run].clone() for name, weight in kept.items()} for run in range(len(self.flat))]


class Engine(Protocol):
    """How a stack of runs computes its losses."""

    def backward(self) -> Tensor:
        """Training loss of each run at its present weights, (run,); its gradients are written into the stack."""
        ...

    def evaluate(self, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Float64 loss and accuracy of each run on the pairs of its mask, over all logits."""
        ...


class FactoredEngine:
    """The exact factored step (`model/factored.py`); all runs in one batched pass."""

    def __init__(
        self,
        stack: Stack,
        configs: Sequence[RunConfig],
        task: GridTask,
        masks: Sequence[Tensor],
        compiled: bool = False,
    ) -> None:
        self.stack, self.task = stack, task
        self.loss_dtype = getattr(torch, configs[0].loss_dtype)
        self.device = stack.flat.device
        self.tokens = factored.tokens_at(task, self.device)
        self.batch = factored.Batch.of_pairs(task, list(masks), self.device)
        self.buffers, self.test_buffers = factored.Buffers(), factored.Buffers()
        self.tables: Callable[..., Any] = factored.tables
        if compiled:
            self._compile()

    def _compile(self) -> None:
        """Compile `tables` and try it; where that does not work, say so and go on without."""
        compiler = next(filter(shutil.which, [os.environ.get("CXX", "c++"), "g++", "clang++", "cl"]), None)
        reason: object = "no C++ compiler (c++, g++, clang++ or cl) is installed"
        if compiler is not None or self.device.type == "cuda":
            try:
                with warnings.catch_warnings(action="ignore"):  # the compiler's own, about its own inspection
                    self.tables = torch.compile(factored.tables, dynamic=False)
                    self.backward()
                return
            except Exception as error:  # whatever a foreign compiler fails with
                reason = str(error).strip().partition("\n")[0]
        self.tables = factored.tables
        warnings.warn(f"trains without compiling: {reason}", stacklevel=2)

    def backward(self) -> Tensor:
        """Losses; the gradients go into the stack."""
        tables = self.tables(self.stack.weights, self.tokens)
        loss, upstream = factored.loss_and_gradients(tables, self.batch, self.buffers, self.loss_dtype)
        places = self.stack.gradients
        found = torch.autograd.grad(tables.flat(), [self.stack.weights[name] for name in places], upstream)
        torch._foreach_copy_(list(places.values()), list(found))
        return loss

    @torch.no_grad()
    def evaluate(self, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Losses and accuracies."""
        batch = factored.Batch.of_pairs(self.task, list(masks), self.device)
        tables = factored.tables(self.stack.weights, self.tokens)
        logits = factored.forward(tables, batch, self.test_buffers).logits
        return factored.cross_entropy(logits, batch).cpu(), factored.accuracy(logits, batch).cpu()


class PlainEngine:
    """The textbook loop: each run through the transformer, all positions computed, autograd."""

    def __init__(self, stack: Stack, configs: Sequence[RunConfig], task: GridTask, masks: Sequence[Tensor]) -> None:
        self.stack, self.task, self.masks = stack, task, masks
        self.loss_dtype = getattr(torch, configs[0].loss_dtype)
        self.device = stack.flat.device
        self.model = build_transformer(configs[0].model, state=stack.states()[0])
        torch.nn.Module.to(self.model, self.device)  # a HookedTransformer's own `to` prints

    def _loss(self, run: int, mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        weights = {name: weight[run] for name, weight in self.stack.weights.items()}
        tokens = self.task.tokens[mask].to(self.device)
        logits = functional_call(self.model, native_parameters(self.model, weights), tokens)[:, self.task.read_at]
        answer = self.task.outputs[self.task.answers[mask]].to(self.device)
        accuracy = (logits.argmax(dim=-1) == answer).double().mean()
        return torch.nn.functional.cross_entropy(logits.to(dtype), answer), accuracy

    def backward(self) -> Tensor:
        """Losses; the gradients go into the stack."""
        places = self.stack.gradients
        losses = []
        for place in places.values():
            place.zero_()
        for run, mask in enumerate(self.masks):
            loss, _ = self._loss(run, mask, self.loss_dtype)
            found = torch.autograd.grad(loss, [self.stack.weights[name] for name in places])
            torch._foreach_add_(list(places.values()), list(found))
            losses.append(loss.detach().double())
        return torch.stack(losses)

    @torch.no_grad()
    def evaluate(self, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Losses and accuracies."""
        nothing = torch.tensor(torch.nan, dtype=torch.float64)
        found = (self._loss(run, m, torch.float64) if m.any() else (nothing, nothing) for run, m in enumerate(masks))
        losses, accuracies = zip(*found, strict=True)
        return torch.stack(losses).cpu(), torch.stack(accuracies).cpu()
