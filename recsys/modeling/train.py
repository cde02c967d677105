"""Train the decoder on prepared sequences: ``recsys train``."""

import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from recsys.config import MODELS_DIR, Config, load_config, load_original
from recsys.console import ConfigOption, ForceOption, SetOption, SparkOption, run, talk
from recsys.data.purchases import is_prepared, open_purchases
from recsys.errors import ConfigError, OutputExistsError
from recsys.modeling.recommenders.registry import require_baseline
from recsys.modeling.training.world import World
from recsys.runs import INFO_FILE, has_checkpoint, is_run
from recsys.spark import Spark
from recsys.storage import require_absent

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch of this run.")] = False,
    launch: Annotated[
        Literal["local", "torchrun", "spark"],
        typer.Option("--launch", help="Who begins the processes; under torchrun each runs this command."),
    ] = "local",
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="How many; training.devices by default.")
    ] = None,
    spark: SparkOption = None,
    force: ForceOption = False,
) -> None:
    """Train the decoder on prepared sequences and keep the best epoch under models/<run>.

    Without a configuration, where `dataset main --split` alone has prepared data, it is the original decoder on ids.
    """
    settings = [*(settings or []), *([] if processes is None else [f"training.devices={processes}"])]
    resolved = load_config(config, settings)
    if config is None and not resolved.data.model_fields_set and not is_prepared(resolved.data.folder):
        original = load_original(settings)
        if is_prepared(original.data.folder):
            talk.print("data of `dataset main --split` alone are prepared: training the original decoder on ids")
            resolved = original
    info = train(resolved, resume=resume, force=force, how=launch, spark=spark)
    if "best_epoch" not in info:  # the first process of a distributed training speaks for all
        return
    epochs = "1 epoch" if info["epochs_run"] == 1 else f"{info['epochs_run']} epochs"
    when = f"after {info['best_epoch'] + 1} of {epochs}"
    if info["best_epoch"] < 0:
        when = f"untrained: {epochs} did not beat it beyond chance"
    elif "untrained_value" in info:
        when += f" (untrained {info['untrained_value']:.4f})"
    kept = f"best {info['metric']} {info['best_value']:.4f} {when}"
    if resolved.training.until == "test":
        kept = f"learned up to the first test window, {epochs}"
    # A resumed run may have had nothing left to do.
    speed = f"; {info['events_per_second']:,.0f} events/s" if info["events_per_second"] else ""
    verb = "plots map" if resolved.family == "text" else "predict"
    kept += speed + _about_transformer(info)
    talk.print(f"{MODELS_DIR / resolved.name}: {kept}\nnext: recsys {verb} --run {resolved.name}")


def train(
    config: Config,
    *,
    resume: bool = False,
    force: bool = False,
    how: Literal["local", "torchrun", "spark"] = "local",
    spark: Spark = None,
) -> dict[str, Any]:
    """Fit the model of ``config`` under ``models/``, with a bar; return what ``run.json`` holds."""
    for name in config.baselines.systems:
        require_baseline(name)  # only later commands run it, but training may take long
    log = open_purchases(config.data.folder, config.data.prepare_command)
    if config.family != "text" and log.n_items < config.predict.k:
        raise ConfigError(
            f"the data hold {log.n_items} items, but lists of {config.predict.k} are asked for; say predict.k: "
            f"{max(log.n_items - 1, 1)} (--set predict.k={max(log.n_items - 1, 1)})"
        )
    folder = MODELS_DIR / config.name
    # These load Lightning, which the help of a verb needs not.
    checkpoints, launch = import_module("recsys.modeling.training.checkpoint"), import_module("recsys.modeling.launch")
    if resume:
        checkpoints.require_resumable(folder, config)
    elif not World.of_environment().rank:  # another process of a distributed training finds the folder of the first
        if folder.is_dir() and any(folder.iterdir()) and not is_run(folder):
            raise OutputExistsError(f"{folder} holds other files than a run's, so it is not replaced; name another")
        if not force and has_checkpoint(folder) and not (folder / INFO_FILE).is_file():
            raise OutputExistsError(
                f"{folder} holds a training that was stopped; --resume goes on from its last finished epoch, --force "
                "begins anew"
            )
        require_absent(folder, force=force)
    import_module("recsys.modeling.training.fit").require_devices(config)
    info: dict[str, Any] = launch.launch(how, config, _command(), resume=resume, spark=spark)
    return info


def _about_transformer(info: dict[str, Any]) -> str:
    """Return a line that says whether lists read the transformer; nothing where there is no choice.

    >>> lead = {"mean": 0.0018, "standard_error": 0.0014, "n_users": 748}
    >>> print(_about_transformer({"best_epoch": 4, "transformer": {"stays": True, "whole": lead}}).strip())
    lists read the transformer: it adds +0.0018 (standard error 0.0014, 748 validation users)
    """
    if "transformer" not in info:
        return ""
    leads = dict(info["transformer"])
    stays = leads.pop("stays")
    if not leads:
        why = "it is not trained" if info["best_epoch"] < 0 else "no purchases are held out to weigh it by"
        return f"\nlists leave the transformer out: {why}"
    words = "{mean:+.4f} (standard error {standard_error:.4f}, {n_users:,} validation users)"
    adds = " and on first purchases ".join(words.format(**lead) for lead in leads.values())
    return f"\nlists {'read the transformer: it adds' if stays else 'leave the transformer out: it would add'} {adds}"


def _command() -> str:
    """Return what was typed: a verb that trains, or its module; without a cluster's address, which may hold a token."""
    typed = [Path(sys.argv[0]).stem, *sys.argv[1:]]
    before = ["", *typed]
    typed = [word for last, word in zip(before, typed, strict=False) if last != "--spark" and word[:7] != "--spark"]
    verb = next((word for word in typed if word in ("train", "backtest")), None)
    place = typed.index(verb) if verb else 0
    return shlex.join(["recsys", verb or "train", *typed[place + 1 :]])


if __name__ == "__main__":
    run(app)
