"""Lightning checkpoints without pickle: tensors in safetensors, everything else as JSON in its header."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO
from safetensors import safe_open
from torch import Tensor

from recsys.errors import RunError
from recsys.modeling.decoder.weights import write_tensors
from recsys.storage import replacing

_HEADER = "checkpoint"


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
            write_tensors(tensors, aside, {_HEADER: header})

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
