"""Two ways to the same losses and gradients, for a stack of runs of one shape.

The trained parameters of all runs live in one (run, parameter) matrix. Every named weight is a view into it,
and so are the parameters of a `HookedTransformer` that trains there: nothing is ever converted or copied.
"""

from collections.abc import Sequence
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from fourier_circuits.model import factored
from fourier_circuits.model.state import State, is_trained, parameter_shapes
from fourier_circuits.model.transformer import build_transformer
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

    def state(self, run: int) -> State:
        """A copy of one run's weights."""
        return {name: weight[run].detach().cpu().clone() for name, weight in self.weights.items()}


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

    def __init__(self, stack: Stack, configs: Sequence[RunConfig], task: GridTask, masks: Sequence[Tensor]) -> None:
        self.stack, self.task = stack, task
        self.loss_dtype = getattr(torch, configs[0].loss_dtype)
        self.device = stack.flat.device
        self.batch = factored.Batch.of_pairs(task, list(masks), self.device)
        self.buffers, self.test_buffers = factored.Buffers(), factored.Buffers()

    def backward(self) -> Tensor:
        """Losses; the gradients go into the stack."""
        tables = factored.tables(self.stack.weights, self.task)
        loss = factored.training_loss(tables, self.batch, self.buffers, self.loss_dtype)
        places = self.stack.gradients
        found = torch.autograd.grad(loss, [self.stack.weights[name] for name in places], torch.ones_like(loss))
        torch._foreach_copy_(list(places.values()), list(found))
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Losses and accuracies."""
        batch = factored.Batch.of_pairs(self.task, list(masks), self.device)
        tables = factored.tables(self.stack.weights, self.task)
        logits = factored.forward(tables, batch, self.test_buffers).logits
        accuracy = (logits.argmax(dim=-1) == batch.answer).double().mean(dim=1)
        return factored.cross_entropy(logits, batch.answer), accuracy


class PlainEngine:
    """The textbook loop: each run a transformer of its own, all three positions computed, autograd."""

    def __init__(self, stack: Stack, configs: Sequence[RunConfig], task: GridTask, masks: Sequence[Tensor]) -> None:
        self.stack, self.task, self.masks = stack, task, masks
        self.loss_dtype = getattr(torch, configs[0].loss_dtype)
        self.models = []
        for run, config in enumerate(configs):
            model = build_transformer(config.model, state=stack.state(run))
            for name, parameter in model.named_parameters():
                parameter.data = stack.weights[name][run].detach()
            self.models.append(model)

    def _loss(self, model: torch.nn.Module, mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        logits = model(self.task.tokens[mask])[:, self.task.read_at]
        answer = self.task.outputs[self.task.answers[mask]]
        accuracy = (logits.argmax(dim=-1) == answer).double().mean()
        return torch.nn.functional.cross_entropy(logits.to(dtype), answer), accuracy

    def backward(self) -> Tensor:
        """Losses; the gradients go into the stack."""
        losses = []
        for run, (model, mask) in enumerate(zip(self.models, self.masks, strict=True)):
            loss, _ = self._loss(model, mask, self.loss_dtype)
            parameters = dict(model.named_parameters())
            found = torch.autograd.grad(loss, [parameters[name] for name in self.stack.gradients])
            for place, gradient in zip(self.stack.gradients.values(), found, strict=True):
                place[run] = gradient
            losses.append(loss.detach().double())
        return torch.stack(losses)

    @torch.no_grad()
    def evaluate(self, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Losses and accuracies."""
        results = [self._loss(m, mask, torch.float64) for m, mask in zip(self.models, masks, strict=True)]
        losses, accuracies = zip(*results, strict=True)
        return torch.stack(losses), torch.stack(accuracies)
