"""Lightning checkpoints without pickle: tensors in safetensors, everything else as JSON in its header."""

import json
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import RunError
from recsys.storage import replacing

_HEADER = "checkpoint"
#: Weights that came later, by the end of their names, and what stands for them in a run of the time before.
_BEFORE_THEY_WERE = {"sales_head.of_kinds": 0.0}


class SafetensorsCheckpointIO(CheckpointIO):
    """Write and read Lightning's nested checkpoint dictionary as one safetensors file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write ``checkpoint`` to ``path``, whole or not at all.

        Raises:
            TypeError: it holds something that is neither a tensor nor representable as JSON.
        """
        tensors: dict[str, Tensor] = {}
        header = json.dumps(_encode(checkpoint, tensors))
        with replacing(Path(path)) as aside:
            _save(tensors, aside, {_HEADER: header})

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint in ``path``, tensors on the CPU.

        Raises:
            RunError: the file is missing, cut short, or not one of ours.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file is no dict
                decoded: dict[str, Any] = _decode(header, tensors)
                return decoded
        except Exception as error:  # safetensors raises a bare Exception type of its own for any damage
            raise RunError(f"{path} is not a whole checkpoint ({error}); remove it and train with --force") from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file at ``path`` if it is there."""
        Path(path).unlink(missing_ok=True)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a model's ``state_dict`` to ``path``, whole or not at all."""
    with replacing(path) as aside:
        _save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, aside)


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # no OSError of its own, so a full disk would pass for a bug
        raise OSError(str(error)) from error


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load weights from ``path`` into ``module``.

    Raises:
        RunError: the file is not safetensors, or its names or shapes do not fit the module.
    """
    expected = module.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise RunError(f"{path} is not a safetensors file ({error}); train again with --force") from error
    for end, value in _BEFORE_THEY_WERE.items():
        found |= {
            name: torch.full_like(weight, value)
            for name, weight in expected.items()
            if name.endswith(end) and name not in found
        }
    for name in sorted(expected.keys() | found.keys()):
        have = tuple(found[name].shape) if name in found else "nothing"
        want = tuple(expected[name].shape) if name in expected else "nothing"
        if have != want:
            raise RunError(
                f"{path} does not fit its configuration: {name} is {have}, expected {want}; "
                "config.yaml or the prepared data changed since training: restore them or train again with --force"
            )
    module.load_state_dict(found)


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


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - any nested checkpoint value
    """Undo :func:`_encode`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
