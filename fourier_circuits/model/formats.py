"""Checkpoints in and out.

What comes in is recognised from the names and shapes of its tensors, never from the file's name:

- ours: safetensors with the configuration in the file's metadata, or a run's folder of them;
- the authors' `.pth`: one state, or `full_run_data.pth` with its `state_dicts` and `epochs`;
- a `HookedTransformer` state dict, as `.pt`, `.pth` or safetensors.

Nothing is ever unpickled but tensors and plain values (`weights_only=True`).
"""

import json
import os
import pickle
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import State, parameter_shapes
from fourier_circuits.model.transformer import build_transformer

_BUFFERS = (".mask", ".IGNORE", ".causal_mask")


def load_model(path: str | os.PathLike[str], epoch: int | None = None) -> Any:
    """A `HookedTransformer` from a run's folder or a checkpoint file.

    Args:
        path: a run directory, or a checkpoint in any of the formats above.
        epoch: which checkpoint of a run (or of `full_run_data.pth`); the last, if None.

    Raises:
        FileNotFoundError: no such path, or no checkpoint at that epoch.
        ValueError: not a checkpoint, tensors missing, misshapen or not finite, or a pickle that carries code.
    """
    state, config = load_state(path, epoch)
    return build_transformer(config, state=state)


def load_state(path: str | os.PathLike[str], epoch: int | None = None) -> tuple[State, ModelConfig]:
    """Like `load_model`, but the named tensors and the sizes instead of a model."""
    path = Path(path)
    if path.is_dir():
        path, epoch = checkpoint_at(path, epoch), None
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {str(path)!r}: give a run directory or a checkpoint file")
    raw, config = _read_safetensors(path) if _is_safetensors(path) else (_read_torch(path, epoch), None)
    try:
        return to_state(raw, config)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def save_state(path: Path, state: State, config: ModelConfig, extra: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint in our format, whole or not at all."""
    about = {"format": "fourier_circuits 1", "config": json.dumps(config.to_dict()), **(extra or {})}
    metadata = {key: str(value) for key, value in about.items()}
    write_whole(path, save({name: tensor.contiguous() for name, tensor in state.items()}, metadata))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it: a reader sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
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
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors checkpoint: {error}") from None
    return tensors, config


def _read_torch(path: Path, epoch: int | None) -> dict[str, Tensor]:
    if path.stat().st_size == 0:
        raise ValueError(f"{str(path)!r} is empty: expected a checkpoint")
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "weights_only" in str(error).lower():
            raise ValueError(
                f"{str(path)!r} was refused: besides tensors it carries objects that would have to run code to load; "
                "save its state dict alone and load that"
            ) from None
        raise ValueError(f"{str(path)!r} is not a checkpoint: torch cannot read it") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{str(path)!r} is not a whole checkpoint: {reason}") from None
    return _one_state(loaded, path, epoch)


def _one_state(loaded: Any, path: Path, epoch: int | None) -> dict[str, Tensor]:
    """The state dict inside what a `.pth` holds."""
    if isinstance(loaded, Mapping) and "state_dicts" in loaded and "epochs" in loaded:
        epochs, states = list(loaded["epochs"]), loaded["state_dicts"]
        if epoch is not None and epoch not in epochs:
            raise FileNotFoundError(f"{str(path)!r} has no state at epoch {epoch}; {_nearest(epochs, epoch)}")
        loaded = states[-1 if epoch is None else epochs.index(epoch)]
    elif epoch is not None:
        raise ValueError(f"{str(path)!r} holds a single state: leave epoch out")
    elif isinstance(loaded, Mapping) and isinstance(loaded.get("model"), Mapping):
        loaded = loaded["model"]
    if not isinstance(loaded, Mapping) or not loaded or not all(torch.is_tensor(v) for v in loaded.values()):
        raise ValueError(
            f"{str(path)!r} holds no state dict: expected tensors by name, a 'model' entry, "
            "or 'state_dicts' with 'epochs'"
        )
    return dict(loaded)


def to_state(raw: Mapping[str, Tensor], config: ModelConfig | None = None) -> tuple[State, ModelConfig]:
    """Named tensors in any known layout -> ours, checked: every parameter there, of its shape, finite.

    Raises:
        ValueError: an unknown layout; a missing, extra or misshapen tensor; NaN or infinity.
    """
    tensors = {name: tensor for name, tensor in raw.items() if not name.endswith(_BUFFERS)}
    needed = [name for name in ("embed.W_E", "pos_embed.W_pos", "unembed.W_U") if name not in tensors]
    if needed:
        raise ValueError(f"missing tensors {needed}; found {sorted(tensors)[:6]}")
    out = next((t for name, t in tensors.items() if name.endswith("attn.W_O")), None)
    if out is None:
        raise ValueError("missing tensors ['blocks.0.attn.W_O']: this is no transformer")
    if out.ndim == 2:
        tensors = _from_authors(tensors)
    if config is None:
        config = _config_from_shapes(tensors)
    shapes = parameter_shapes(config)
    for name, shape in shapes.items():
        if name not in tensors and ".b_" in name:
            tensors[name] = torch.zeros(shape)
    if missing := sorted(set(shapes) - set(tensors)):
        raise ValueError(f"missing tensors {missing}")
    if extra := sorted(set(tensors) - set(shapes)):
        raise ValueError(f"unexpected tensors {extra}")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensors[name].shape)}")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite weights")
    return {name: tensors[name].float().contiguous() for name in shapes}, config


def _config_from_shapes(tensors: Mapping[str, Tensor]) -> ModelConfig:
    blocks = {int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
    try:
        d_vocab, d_model = tensors["embed.W_E"].shape
        n_heads, _, d_head = tensors["blocks.0.attn.W_Q"].shape
        n_ctx = tensors["pos_embed.W_pos"].shape[0]
        d_vocab_out = tensors["unembed.W_U"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"its tensors have neither HookedTransformer's shapes nor the authors' ({error})") from None
    w_in = tensors.get("blocks.0.mlp.W_in")
    return ModelConfig(
        p=max(d_vocab - 1, 3),
        d_model=d_model,
        n_heads=n_heads,
        d_head=d_head,
        d_mlp=0 if w_in is None else w_in.shape[-1],
        n_layers=max(blocks) + 1,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab_out,
    )


def _from_authors(tensors: Mapping[str, Tensor]) -> State:
    """The authors' layout: matrices the other way round, the heads of W_O side by side.

    Their attention-only model (`attn_blocks.i`) adds every block's input twice: x becomes 2x + attn(x). The same
    function without it: W_Q, W_K, W_V of block i times 2^i, its W_O divided by 2^(i+1), W_U times 2^(blocks).
    """
    heads = next(t.shape[0] for name, t in tensors.items() if name.endswith("W_Q"))
    doubled = sum(name.startswith("attn_blocks.") and name.endswith("W_Q") for name in tensors)
    state: State = {}
    for name, tensor in tensors.items():
        ours = name.removeprefix("attn_") if name.startswith("attn_blocks.") else name
        block = int(match[1]) if doubled and (match := re.match(r"blocks\.(\d+)\.", ours)) else 0
        kind = name.rsplit(".", 1)[-1]
        if kind in ("W_Q", "W_K", "W_V"):
            state[ours] = tensor.transpose(-1, -2) * 2.0**block
        elif kind == "W_O":
            scale = 0.5 ** (block + 1) if doubled else 1.0
            state[ours] = tensor.T.reshape(heads, -1, tensor.shape[0]) * scale
        elif kind in ("W_E", "W_in", "W_out"):
            state[ours] = tensor.T
        else:
            state[ours] = tensor * 2.0**doubled if kind == "W_U" else tensor
    return state
