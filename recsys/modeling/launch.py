"""Training by several processes: begun on this machine, by torchrun, or in the executors of Spark.

All of them run :func:`train_rank`. They share each batch, so that a training is the same whatever their number, but for
rounding and dropout. They map the data from one folder and write the run to one: a cluster must see both under the same
path.
"""

import os
from contextlib import nullcontext
from importlib import import_module
from typing import Any, Literal

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from recsys.config import MODELS_DIR, Config
from recsys.data.purchases import open_purchases
from recsys.errors import RunError, UsageError
from recsys.modeling.build import TrainingBar, build_module, repeatable
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.training.checkpoint import instead_of
from recsys.modeling.training.fit import fit
from recsys.modeling.training.world import World
from recsys.spark import Spark, spark_errors, spark_session

#: Who begins the processes.
Launch = Literal["local", "torchrun", "spark"]


def train_rank(settings: dict[str, Any], place: str, command: str, resume: bool) -> dict[str, Any]:
    """Train as one of the processes, or alone, with ``place`` as the current folder; return what ``run.json`` holds."""
    os.chdir(place)
    config, world = Config.model_validate(settings), World.of_environment()
    keep_freed_memory()
    if world.size > 1 and "OMP_NUM_THREADS" not in os.environ:  # Spark says it, and torchrun where it begins several
        torch.set_num_threads(max((os.cpu_count() or 1) // world.on_machine, 1))
    log, folder = open_purchases(config.data.folder, config.data.prepare_command), MODELS_DIR / config.name
    with repeatable():
        module = build_module(config, log)  # before the folder is touched: what does not fit is refused here
        with nullcontext() if resume or world.rank else instead_of(folder):
            return fit(config, log, module, folder, resume=resume, callbacks=[TrainingBar()], command=command)


def launch(
    how: Launch, config: Config, command: str, *, resume: bool = False, spark: Spark = None, in_driver: bool = False
) -> dict[str, Any]:
    """Train by ``training.devices`` processes, or as one of those that torchrun has begun; return what the first says.

    Spark runs them in executors, or ``in_driver``: all on its driver's machine.
    """
    if how == "spark":
        if config.training.accelerator == "gpu":
            raise UsageError("--launch spark trains on processors; on GPUs begin by --launch torchrun (docs/scale.md)")
        config = config.model_copy(update={"training": config.training.model_copy(update={"accelerator": "cpu"})})
    given = config.model_dump(mode="json"), os.getcwd(), command, resume  # noqa: PTH109 - text, as it travels
    if how == "torchrun" and "RANK" not in os.environ:
        raise UsageError(
            "--launch torchrun: torchrun did not begin this; run `torchrun … -m recsys train` (docs/scale.md)"
        )
    if World.of_environment().size > 1 or (how != "spark" and config.training.devices == 1):
        return train_rank(*given)
    try:
        with nullcontext() if resume else instead_of(MODELS_DIR / config.name):
            return _in_spark(given, config, spark, in_driver=in_driver) if how == "spark" else _here(given, config)
    except SignalException as error:
        raise RunError("training was interrupted; --resume goes on from its last finished epoch") from error
    except (ChildFailedError, RuntimeError) as error:
        raise RunError("a process of the training failed; its own words stand above") from error


def _here(given: tuple[Any, ...], config: Config) -> dict[str, Any]:
    n, meet = config.training.devices, "localhost:0"
    plan = LaunchConfig(1, 1, n, run_id=config.name, rdzv_backend="c10d", rdzv_endpoint=meet, max_restarts=0)
    info: dict[str, Any] = elastic_launch(plan, train_rank)(*given)[0]
    return info


def _in_spark(given: tuple[Any, ...], config: Config, spark: Spark, *, in_driver: bool) -> dict[str, Any]:
    with spark_session(spark), spark_errors("the training in Spark"):
        distributor = import_module("pyspark.ml.torch.distributor").TorchDistributor
        options = {"local_mode": in_driver, "use_gpu": False}
        info: dict[str, Any] = distributor(config.training.devices, **options).run(train_rank, *given)
    return info
