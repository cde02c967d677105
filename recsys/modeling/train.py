"""Train the decoder on prepared sequences: ``recsys train``."""

import os
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from recsys.config import MODELS_DIR, Config, load_config, load_original
from recsys.console import ConfigOption, ForceOption, SetOption, run, talk
from recsys.data.purchases import is_prepared, open_purchases
from recsys.errors import OutputExistsError
from recsys.modeling.build import build_module
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.training.fit import _fit, _instead_of, _require_devices, _require_resumable, has_checkpoint
from recsys.runs import INFO_FILE
from recsys.storage import require_absent

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch of this run.")] = False,
    force: ForceOption = False,
) -> None:
    """Train the decoder on prepared sequences and keep the best epoch under models/<run>.

    Without a configuration, where `dataset main --split` alone has prepared data, it is the original decoder on ids.
    """
    resolved = load_config(config, settings)
    if config is None and not resolved.data.model_fields_set and not is_prepared(resolved.data.folder):
        published = load_original(settings)
        if is_prepared(published.data.folder):
            talk.print("data of `dataset main --split` alone are prepared: training the original decoder on ids")
            resolved = published
    keep_freed_memory()
    info = train(resolved, resume=resume, force=force)
    if "best_epoch" not in info:  # the first process of a distributed training speaks for all
        return
    epochs = "1 epoch" if info["epochs_run"] == 1 else f"{info['epochs_run']} epochs"
    when = f"after {info['best_epoch'] + 1} of {epochs}"
    if info["best_epoch"] < 0:
        when = f"untrained: better than after {'' if info['epochs_run'] == 1 else 'any of '}{epochs}"
    elif "untrained_value" in info:
        when += f" (untrained {info['untrained_value']:.4f})"
    if info.get("is_halfway"):
        when += f"; kept is the mean of the two ({info['kept_value']:.4f}), as that gain may be chance"
    kept = f"best {info['metric']} {info['best_value']:.4f} {when}"
    if resolved.training.until == "test":
        kept = f"learned up to the first test window, {epochs}"
    # A resumed run may have had nothing left to do.
    speed = f"; {info['events_per_second']:,.0f} events/s" if info["events_per_second"] else ""
    talk.print(
        f"{MODELS_DIR / resolved.name}: {kept}{speed}\nnext: recsys {_next_verb(resolved)} --run {resolved.name}"
    )


def _next_verb(config: Config) -> str:
    return "predict" if config.text_model.objective is None else "plots map"


def train(config: Config, *, resume: bool = False, force: bool = False) -> dict[str, Any]:
    """Fit the model of ``config`` and write its run folder; return what ``run.json`` holds.

    Raises:
        DataError: the data are not prepared or too short for the split.
        OutputExistsError: the run exists and neither ``force`` nor ``resume`` is given.
        RunError: ``resume`` without anything to go on from, or with another configuration.
    """
    data = open_purchases(config.data.folder, config.data.prepare_command)
    folder = MODELS_DIR / config.name
    if resume:
        _require_resumable(folder, config)
    elif "LOCAL_RANK" not in os.environ:  # another process of a distributed training finds the folder of the first
        if not force and has_checkpoint(folder) and not (folder / INFO_FILE).is_file():
            raise OutputExistsError(
                f"{folder} holds a training that was stopped; --resume goes on from its last finished epoch, --force "
                "begins anew"
            )
        require_absent(folder, force=force)
    _require_devices(config)
    module = build_module(config, data)  # before the folder is touched: what does not fit is refused here
    with nullcontext() if resume else _instead_of(folder):
        return _fit(config, data, module, resume=resume)


if __name__ == "__main__":
    run(app)
