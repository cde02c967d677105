"""The weights of a model, and nothing else, as one safetensors file."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import RunError
from recsys.storage import replacing


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a model's ``state_dict`` to ``path``, whole or not at all."""
    with replacing(path) as aside:
        write_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, aside)


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write ``tensors`` to ``path`` as safetensors; an OSError where they cannot be written."""
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
    for name in sorted(expected.keys() | found.keys()):
        have = tuple(found[name].shape) if name in found else "nothing"
        want = tuple(expected[name].shape) if name in expected else "nothing"
        if have != want:
            raise RunError(
                f"{path} does not fit its configuration: {name} is {have}, expected {want}; "
                "config.yaml or the prepared data changed since training: restore them or train again with --force"
            )
    module.load_state_dict(found)
