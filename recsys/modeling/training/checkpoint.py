"""Checkpoints of a run: written without pickle, tensors in safetensors and everything else as JSON in its header."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO
from safetensors import safe_open
from torch import Tensor

from recsys.config import Config
from recsys.errors import RunError
from recsys.modeling.decoder.weights import save_weights
from recsys.runs import CHECKPOINTS, LAST, config_in, has_checkpoint

_HEADER = "checkpoint"


class SafetensorsCheckpointIO(CheckpointIO):
    """Write and read Lightning's nested checkpoint dictionary as one safetensors file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write ``checkpoint`` to ``path``, whole or not at all; a TypeError if it holds more than tensors and JSON."""
        tensors: dict[str, Tensor] = {}
        header = json.dumps(_encode(checkpoint, tensors))
        save_weights(tensors, Path(path), {_HEADER: header})

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint in ``path``, tensors on the CPU; a RunError if it is missing or cut short."""
        try:
            with safe_open(path, framework="pt") as file:
                made = {"tensor": file.get_tensor, "dict": dict, "tuple": tuple, "list": list}

                def decoded(tagged: dict[str, Any]) -> object:  # called from the inside out
                    ((tag, value),) = tagged.items()
                    return made[tag](value)

                checkpoint: dict[str, Any] = json.loads((file.metadata() or {})[_HEADER], object_hook=decoded)
            return checkpoint
        except Exception as error:  # safetensors raises a bare Exception type of its own for any damage
            raise RunError(f"{path} is not a whole checkpoint ({error}); remove it and train with --force") from error

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def next_epoch(folder: Path) -> int:
    """Return the number, from 0, of the first epoch that a run folder has not finished."""
    return int(SafetensorsCheckpointIO().load_checkpoint(folder / CHECKPOINTS / LAST)["epoch"]) + 1


def require_resumable(folder: Path, config: Config) -> None:
    """Refuse, by a RunError, to go on with a training that left no epoch, or that began with other settings."""
    if not has_checkpoint(folder):
        raise RunError(f"{folder} has no {CHECKPOINTS}/{LAST} to go on from; train without --resume")
    # More epochs may be asked for; anything else would make the result neither this run nor that one.
    then, now = (one.model_dump(mode="json") for one in (config_in(folder), config))
    changed = [
        f"{section}.{key} was {then[section][key]}, is {value}"
        for section, values in now.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value != then[section][key] and (section, key) != ("training", "epochs")
    ]
    changed += [f"{key} was {then[key]}, is {now[key]}" for key in ("name", "seed") if then[key] != now[key]]
    if changed:
        raise RunError(
            f"{folder} was trained with another configuration than the one given ({'; '.join(changed)}); only "
            "training.epochs may change on --resume; give the same configuration, or another name"
        )
    done = next_epoch(folder)
    if done > config.training.epochs:
        raise RunError(
            f"{folder} has been trained for {done} epochs, more than training.epochs {config.training.epochs}; "
            f"give {done} or more"
        )


@contextmanager
def instead_of(folder: Path) -> Iterator[None]:
    """Set a run aside; give it back when the one that takes its place ends without a checkpoint to go on from."""
    if not folder.exists():
        yield
        return
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    folder.rename(old)
    try:
        yield
    finally:
        if has_checkpoint(folder):
            shutil.rmtree(old, ignore_errors=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            old.rename(folder)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - any nested checkpoint value
    """Return ``value`` as JSON with containers tagged; tensors are moved to ``tensors`` under running numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory, as tied weights do.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint may hold tensors and plain values, found {type(value).__name__}")
