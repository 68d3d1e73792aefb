"""A training step as one CUDA graph: the host starts it, and never waits for it."""

from collections.abc import Callable

import torch
from torch import Tensor


class GraphedStep:
    """Gradients and update of a stack, recorded once and replayed; each call returns the losses before the update.

    Recording runs the step a few times; weights and the optimiser's state are put back to where they were.

    Args:
        backward: writes the gradients, returns the loss of each run.
        optimizer: made with `capturable=True` and a learning rate that is a tensor on the GPU.
    """

    def __init__(self, backward: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        weights = [parameter.detach().clone() for parameter in parameters]
        state = {
            (i, name): tensor.clone()
            for i, parameter in enumerate(parameters)
            for name, tensor in optimizer.state[parameter].items()
        }
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                backward()
                optimizer.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses = backward()
            optimizer.step()
        with torch.no_grad():
            for i, parameter in enumerate(parameters):
                parameter.copy_(weights[i])
                for name, tensor in optimizer.state[parameter].items():
                    tensor.copy_(state.get((i, name), torch.zeros_like(tensor)))

    def __call__(self) -> Tensor:
        """One epoch."""
        self.graph.replay()
        return self.losses.clone()
