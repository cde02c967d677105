"""The weights of a model, and nothing else, as one safetensors file."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.errors import RunError
from recsys.storage import replacing


def save_weights(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a model's ``state_dict``, or other tensors by name, to ``path``, whole or not at all."""
    with replacing(path) as aside:
        try:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
            save_file(tensors, aside, metadata=metadata)
        except SafetensorError as error:  # no OSError of its own, so a full disk would pass for a bug
            raise OSError(str(error)) from error


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load weights from ``path`` into ``module``; a RunError where it is not safetensors, or does not fit."""
    expected = module.state_dict()
    try:
        found = load_file(path)
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
