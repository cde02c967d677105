"""Several processes train what one trains, by our own command and by torchrun's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_spark import losses
from test_train import SETTINGS, config_with
from toy import toy_data

from recsys.errors import RunError, UsageError
from recsys.modeling.launch import launch
from recsys.modeling.training.module import of_all
from recsys.modeling.training.world import World
from recsys.runs import find_run


def test_two_processes_begun_here_or_by_torchrun_train_what_one_trains(workplace):
    toy_data(workplace / "data" / "processed", n_users=30, n_items=20, n_days=60, seed=4)
    alone = launch("local", config_with("model.dropout=0", "name=alone"), "")
    words = [word for one in (*SETTINGS, "model.dropout=0") for word in ("--set", one)]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "recsys", "train"]
    runs = {"here": ["recsys", "train", "--processes", "2"], "torchrun": [*torchrun, "--launch", "torchrun"]}
    for name, command in runs.items():
        typed = [sys.executable, "-m", *command, *words, "--set", f"name={name}"]
        done = subprocess.run(typed, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[-3000:]
        assert done.stderr.count("next: recsys predict") == 1  # the first process speaks for all
        assert losses(name) == pytest.approx(losses("alone"), rel=1e-5)
        assert find_run(name).info["best_value"] == pytest.approx(alone["best_value"], rel=1e-5)
    assert sorted(path.name for path in Path("models").iterdir()) == ["alone", *runs]


def test_a_process_that_fails_is_one_line_and_the_old_run_stays(workplace):
    toy_data(workplace / "data" / "processed", n_users=30, n_items=20, n_days=60, seed=4)
    old = Path("models/toy/run.json")
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    with pytest.raises(RunError, match="a process of the training failed"):
        launch("local", config_with("training.devices=2", "split.n_folds=40"), "")
    assert old.read_text() == "{}"


def test_torchrun_must_have_begun_its_processes(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="torchrun did not begin this"):
        launch("torchrun", config_with(), "")


def test_one_process_is_the_first_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert World.of_environment() == (0, 1, 1)
    assert of_all({"next": (torch.tensor(2.0), 3)}) == {"next": (2.0, 3)}
    assert "RANK" not in os.environ
