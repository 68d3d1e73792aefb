"""Checkpoints in and out.

What comes in is recognised from the names and shapes of its tensors, never from the file's name:

- ours: safetensors with the configuration in the file's metadata, or a run's folder of them;
- the authors' `.pth`: one state, or `full_run_data.pth` with its `state_dicts` and `epochs`;
- a state dict of TransformerLens 3 (`HookedTransformer`) or 4, as `.pt`, `.pth` or safetensors.

Nothing is ever unpickled but tensors and plain values (`weights_only=True`).
"""

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.layouts import to_state
from fourier_circuits.model.state import State
from fourier_circuits.model.transformer import build_transformer


def load_model(path: str | os.PathLike[str], epoch: int | None = None, n_heads: int | None = None) -> Any:
    """A `HookedTransformer` (on TransformerLens 4: its bridge) from a run's folder or a checkpoint file.

    Args:
        path: a run directory, or a checkpoint in any of the formats above.
        epoch: which checkpoint of a run (or of `full_run_data.pth`); the last, if None.
        n_heads: of a state dict written by TransformerLens 4, which does not say.

    Raises:
        FileNotFoundError: no such path, or no checkpoint at that epoch.
        ValueError: not a checkpoint, tensors missing, misshapen or not finite, or a pickle that carries code.
    """
    state, config = load_state(path, epoch, n_heads)
    return build_transformer(config, state=state)


def load_state(
    path: str | os.PathLike[str], epoch: int | None = None, n_heads: int | None = None
) -> tuple[State, ModelConfig]:
    """Like `load_model`, but the named tensors and the sizes instead of a model."""
    path = Path(path)
    if path.is_dir():
        path, epoch = checkpoint_at(path, epoch), None
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {str(path)!r}: give a run directory or a checkpoint file")
    if _is_safetensors(path):
        if epoch is not None:
            raise ValueError(f"{str(path)!r} holds a single state: leave epoch out")
        raw, config = _read_safetensors(path)
    else:
        raw, config = _read_torch(path, epoch), None
    try:
        return to_state(raw, config, n_heads)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def save_state(path: Path, state: State, config: ModelConfig, extra: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint in our format, whole or not at all."""
    about = {"format": "fourier_circuits 1", "config": json.dumps(config.to_dict()), **(extra or {})}
    metadata = {key: str(value) for key, value in about.items()}
    write_whole(path, save({name: tensor.contiguous() for name, tensor in state.items()}, metadata))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it: a reader sees the old content or the new one.

    Raises:
        OSError: it cannot be written; the file is named, and what was there before is still there.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(error.errno, f"cannot write, {error.strerror}", str(path)) from None
        raise


def checkpoint_path(run: Path, epoch: int) -> Path:
    """Where a run keeps the checkpoint of an epoch."""
    return run / "checkpoints" / f"epoch-{epoch:06d}.safetensors"


def checkpoint_epochs(run: Path) -> list[int]:
    """The epochs that a run has checkpoints of, in order."""
    names = (re.fullmatch(r"epoch-(\d+)\.safetensors", file.name) for file in (run / "checkpoints").glob("*"))
    return sorted(int(name[1]) for name in names if name)


def checkpoint_at(run: Path, epoch: int | None) -> Path:
    """The checkpoint of an epoch (the last, if None).

    Raises:
        FileNotFoundError: no checkpoint at all, or none at that epoch.
    """
    epochs = checkpoint_epochs(run)
    if not epochs:
        raise FileNotFoundError(f"{str(run)!r} is not a run: it has no checkpoints/epoch-*.safetensors")
    if epoch is None:
        return checkpoint_path(run, epochs[-1])
    if epoch not in epochs:
        raise FileNotFoundError(f"run {str(run)!r} has no checkpoint at epoch {epoch}; {_nearest(epochs, epoch)}")
    return checkpoint_path(run, epoch)


def _nearest(epochs: list[int], epoch: int) -> str:
    near = sorted(sorted(epochs, key=lambda other: abs(other - epoch))[:2])
    return f"nearest are {' and '.join(map(str, near))}"


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:9] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], ModelConfig | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = ModelConfig.from_dict(json.loads(metadata["config"])) if "config" in metadata else None
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors checkpoint: {error}") from None
    return tensors, config


def _read_torch(path: Path, epoch: int | None) -> dict[str, Tensor]:
    if path.stat().st_size == 0:
        raise ValueError(f"{str(path)!r} is empty: expected a checkpoint")
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            loaded = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever bytes that are no checkpoint make torch raise
        if "Unsupported" in str(error):
            raise ValueError(
                f"{str(path)!r} was refused: besides tensors it carries objects that would have to run code to load; "
                "save its state dict alone and load that"
            ) from None
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise ValueError(f"{str(path)!r} is not a whole checkpoint: {reason}") from None
    return _one_state(loaded, path, epoch)


def _one_state(loaded: Any, path: Path, epoch: int | None) -> dict[str, Tensor]:
    """The state dict inside what a `.pth` holds."""
    if isinstance(loaded, Mapping) and {"state_dicts", "epochs"} <= set(loaded):
        states, epochs = loaded["state_dicts"], loaded["epochs"]
        epochs = epochs.tolist() if torch.is_tensor(epochs) else epochs
        if not isinstance(states, list) or not isinstance(epochs, Iterable) or len(states) != len(list(epochs)):
            raise ValueError(f"{str(path)!r}: 'state_dicts' and 'epochs' must be lists of equal length")
        if not states:
            raise ValueError(f"{str(path)!r} holds no state: its 'state_dicts' are empty")
        if epoch is not None and epoch not in epochs:
            raise FileNotFoundError(f"{str(path)!r} has no state at epoch {epoch}; {_nearest(list(epochs), epoch)}")
        loaded = states[-1 if epoch is None else list(epochs).index(epoch)]
    elif epoch is not None:
        raise ValueError(f"{str(path)!r} holds a single state: leave epoch out")
    elif isinstance(loaded, Mapping) and isinstance(loaded.get("model"), Mapping):
        loaded = loaded["model"]
    if not isinstance(loaded, Mapping) or not loaded or not all(torch.is_tensor(v) for v in loaded.values()):
        raise ValueError(
            f"{str(path)!r} holds no state dict: expected tensors by name, a 'model' entry, "
            "or 'state_dicts' with 'epochs'"
        )
    return {str(name): tensor for name, tensor in loaded.items()}
