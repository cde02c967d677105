"""The training loop, run by Lightning: checkpoints, early stopping, logs, and what a run keeps in the end."""

import csv
import logging
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins import MixedPrecision, Precision
from pytorch_lightning.strategies import DDPStrategy
from safetensors.torch import load_file

from recsys.config import Config, dump_config
from recsys.data.purchases import Purchases
from recsys.errors import ConfigError, RunError
from recsys.modeling.decoder.weights import save_weights
from recsys.modeling.memory import KeptMemory
from recsys.modeling.training.checkpoint import SafetensorsCheckpointIO, next_epoch
from recsys.modeling.training.module import EpochModule, PurchaseModule
from recsys.modeling.training.world import World
from recsys.runs import CHECKPOINTS, CONFIG_FILE, INFO_FILE, LAST, LOG_FILE, UNTRAINED, WEIGHTS_FILE, has_checkpoint
from recsys.storage import code_version, replacing, write_json, write_text

_TRAINING_METRIC = "train_loss"  # of a training that holds nothing out


def fit(
    config: Config,
    log: Purchases,
    module: EpochModule,
    folder: Path,
    *,
    resume: bool = False,
    callbacks: Sequence[pl.Callback] = (),
    command: str = "",
) -> dict[str, Any]:
    """Fit ``module`` and write its run to ``folder``, or go on there to ``resume``; return what ``run.json`` holds."""
    world = World.of_environment()
    if not world.rank:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG_FILE, dump_config(config))
    best = _checkpoint(folder, "best", module.validation_metric, module.validation_mode)
    began = time.perf_counter()
    first_epoch = next_epoch(folder) if resume else 0
    with warnings.catch_warnings():
        _quiet_lightning()
        trainer = _trainer(config, folder, best, module, callbacks, world)
        try:
            trainer.fit(module, ckpt_path=folder / CHECKPOINTS / LAST if resume else None, weights_only=True)
        except SystemExit:  # Lightning ends the process itself on Ctrl-C
            if not trainer.interrupted:
                raise
    seconds = time.perf_counter() - began
    if trainer.interrupted:
        how = "no epoch was finished, so there is nothing to go on from; train anew"
        if has_checkpoint(folder):
            how = f"go on with: recsys train --resume --config {folder / CONFIG_FILE}"
        raise RunError(f"training was interrupted; {how}")
    metric, device = module.validation_metric, trainer.strategy.root_device
    value = trainer.callback_metrics[_TRAINING_METRIC] if metric is None else best.best_model_score or 0
    n_epochs = trainer.current_epoch - first_epoch
    info = {
        "name": config.name,
        "seed": config.seed,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "torch_version": torch.__version__,
        "data_folder": str(log.folder or ""),
        "data_fingerprint": log.fingerprint,
        "n_parameters": sum(weights.numel() for weights in module.parameters() if weights.requires_grad),
        "metric": metric or _TRAINING_METRIC,
        "best_value": float(value),
        "epochs_run": trainer.current_epoch,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "seconds": round(seconds, 1),
        "events_per_second": round(module.batches.n_events * n_epochs / seconds, 1),
    }
    if isinstance(module, PurchaseModule) and module.untrained_value.isfinite():
        info["untrained_value"] = float(module.untrained_value)
    if trainer.is_global_zero:
        _finish(folder, Path(best.best_model_path), module, info)
    return info


class _ValidateUntrained(pl.Callback):
    """Keep the state before any training too: a few days of purchases can teach less than its rules know."""

    def __init__(self, checkpoint: ModelCheckpoint) -> None:
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the checkpoint of the best epoch begin with the untrained model, unless a training goes on."""
        if trainer.global_step or not isinstance(pl_module, PurchaseModule):
            return
        value = pl_module.validate_untrained()
        if value is None:
            return
        if trainer.is_global_zero:  # a better epoch takes the place of that checkpoint, and is held against it
            save_weights(pl_module.model.state_dict(), Path(str(self.checkpoint.dirpath)) / UNTRAINED)
        logged = {str(self.checkpoint.monitor): value, "epoch": 0, "step": 0}
        # Its public hooks save only after a step has been made.
        self.checkpoint._save_topk_checkpoint(trainer, {name: torch.tensor(one) for name, one in logged.items()})


class _MixedPrecision(MixedPrecision):
    """bfloat16 with clipped gradients, which Lightning refuses for fear of a scaler that bfloat16 does not need."""

    clip_gradients = Precision.clip_gradients  # as in single precision


def _checkpoint(
    folder: Path, stem: str, metric: str | None = None, mode: Literal["min", "max"] = "min"
) -> ModelCheckpoint:
    """Return what keeps the best epoch by ``metric``; without one the newest: ``save_last`` keeps the newest best."""
    checkpoint = ModelCheckpoint(
        folder / CHECKPOINTS, stem, metric, mode=mode, save_on_train_epoch_end=True, enable_version_counter=False
    )
    checkpoint.FILE_EXTENSION = ".safetensors"
    return checkpoint


def _trainer(
    config: Config,
    folder: Path,
    best: ModelCheckpoint,
    module: EpochModule,
    callbacks: Sequence[pl.Callback],
    world: World,
) -> pl.Trainer:
    training, metric = config.training, module.validation_metric
    on_gpu = training.accelerator == "gpu" or (training.accelerator == "auto" and torch.cuda.is_available())
    kept = KeptMemory()
    bounded = LambdaCallback(on_train_batch_end=lambda *_: kept.bound())
    own = [best, _ValidateUntrained(best), _checkpoint(folder, Path(LAST).stem), bounded]
    if metric is not None:
        mode = module.validation_mode
        own.append(EarlyStopping(metric, 0, training.patience, mode=mode, check_on_train_epoch_end=True))
    plugins: list[Any] = [SafetensorsCheckpointIO()]
    if training.precision == "bfloat16" or (training.precision == "auto" and on_gpu):
        plugins.append(_MixedPrecision("bf16-mixed", "cuda" if on_gpu else "cpu"))
    csv_log = CSVLogger(folder, name="log", flush_logs_every_n_steps=50)
    return pl.Trainer(
        accelerator=training.accelerator,
        **_processes(world, on_gpu=on_gpu),
        max_epochs=training.epochs,
        gradient_clip_val=1.0,  # the usual norm: it cuts the jumps of the first steps
        callbacks=[*own, *callbacks],
        plugins=plugins,
        logger=[csv_log, TensorBoardLogger(folder, name="tensorboard", default_hp_metric=False)],
        log_every_n_steps=module.log_every_n_steps,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        # Batches are split between processes by the batches themselves.
        use_distributed_sampler=False,
    )


def _processes(world: World, *, on_gpu: bool) -> dict[str, Any]:
    """Return what Lightning's trainer must be told of the processes."""
    if world.size == 1:
        return {"devices": 1}
    # A part of the model that answers a query rests in a process that has none.
    backend = "nccl" if on_gpu else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    return {"devices": world.on_machine, "num_nodes": world.size // world.on_machine, "strategy": strategy}


def require_devices(config: Config) -> None:
    """Refuse devices that are not there by a ConfigError, while a run that stands in the folder is still whole."""
    training, n_gpus = config.training, torch.cuda.device_count()
    if training.accelerator == "gpu" and not (n_gpus or torch.backends.mps.is_available()):
        raise ConfigError("training.accelerator is gpu, but none is found here; take auto or cpu, or check the driver")
    if training.accelerator != "cpu" and 0 < n_gpus < training.devices:
        raise ConfigError(f"training.devices is {training.devices}, but {n_gpus} GPUs are found here; lower it")


def _finish(folder: Path, best_checkpoint: Path, module: EpochModule, info: dict[str, Any]) -> None:
    """Write the weights of the best epoch, one table of all log rows, and last of all ``run.json``.

    The transformer may be left out of them, and the untrained model be kept in their place, which ``info`` tells.
    """
    best = SafetensorsCheckpointIO().load_checkpoint(best_checkpoint)
    state, is_trained, untrained = best["state_dict"], bool(best["global_step"]), folder / CHECKPOINTS / UNTRAINED
    if isinstance(module, PurchaseModule):
        if is_trained and untrained.is_file() and not module.beats(state, fresh := load_file(untrained)):
            state, is_trained = module.untrained_state(fresh), False
        choice = module.choose_transformer(state, is_trained=is_trained)
        if choice is not None:
            info["transformer"] = choice.to_json()
            if choice.value is not None:
                info["best_value"] = choice.value
    save_weights(module.weights(state), folder / WEIGHTS_FILE)
    _merge_logs(folder)
    info["best_epoch"] = int(best["epoch"]) if is_trained else -1  # -1: the state before any training
    write_json(folder / INFO_FILE, info)


def _merge_logs(folder: Path) -> None:
    """Join the logs of all sessions of a run into one table, in order."""
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    for path in sorted(folder.glob("log/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:])):
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            columns |= dict.fromkeys(reader.fieldnames or [])
            rows += list(reader)
    with replacing(folder / LOG_FILE) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _quiet_lightning() -> None:
    """Silence what Lightning says about choices that are made on purpose here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for reason in (
        ".*does not have many workers.*",  # batches are assembled faster than they are consumed
        ".*exists and is not empty.*",  # on resume, on purpose
        ".*IterableDataset. has .__len__. defined.*",  # one process assembles, so nothing is seen twice
        ".*LeafSpec.*",  # Lightning's own use of an old name of torch
        ".*GPU available but not used.*",
        ".*number of training batches.*smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=reason)
