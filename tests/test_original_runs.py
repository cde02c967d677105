"""The original decoders as commands: trained, resumed, asked, scored and drawn like any other run."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from toy import write_prepared, write_vectors
from typer.testing import CliRunner

from recsys.cli import build_app
from recsys.config import Config, load_config, load_original
from recsys.errors import ConfigError, DataError, RunError
from recsys.modeling.decoder.weights import save_weights
from recsys.modeling.original.module import OriginalModule
from recsys.modeling.predict import predict_folds
from recsys.modeling.train import train
from recsys.runs import find_run
from recsys.storage import read_json

N_ITEMS = 20
SETTINGS = [
    "name=toy",
    "data.source=hm",
    "data.name=toy",
    "split.protocol=customers",
    "split.n_folds=1",
    "original.family=id",
    "original.hidden_size=16",
    "original.num_heads=2",
    "original.num_layers=1",
    "original.batch_size=16",
    "training.epochs=2",
    "training.lr=0.01",
    "training.patience=9",
    "training.accelerator=cpu",
    "evaluation.n_bootstrap=100",
]


def config_with(*changes: str) -> Config:
    return load_config(None, [*SETTINGS, *changes])


@pytest.fixture
def prepared(workplace):
    """Sixty customers who walk up the catalogue from somewhere, an item every third day."""
    random = np.random.default_rng(0)
    events = [
        (user, 18_000 + 3 * step + int(start), (int(start) + step) % N_ITEMS + 1)
        for user, start in enumerate(random.integers(0, N_ITEMS, 60))
        for step in range(2 + user % 9)
    ]
    write_prepared(workplace / "data" / "processed" / "toy", events, n_items=N_ITEMS)
    return workplace


def log_of(name: str = "toy") -> list[dict[str, str]]:
    with (Path("models") / name / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def command(verb: str, *arguments: str):
    return CliRunner().invoke(build_app(verb), [verb, *arguments], catch_exceptions=False)


def test_loss_and_entropy_are_logged_at_every_step_and_epoch_for_both_parts(prepared):
    info = train(config_with())
    rows, n_steps = log_of(), 2 * 3  # 48 customers to learn from, 16 a step
    for name in ("loss", "entropy"):
        for part, n_logged in (("train", n_steps), ("val", 2)):
            assert sum(bool(row[f"{part}_{name}_step"]) for row in rows) == n_logged
            assert sum(bool(row[f"{part}_{name}_epoch"]) for row in rows) == 2
    losses = [float(row["val_loss_epoch"]) for row in rows if row["val_loss_epoch"]]
    assert info["metric"] == "val_loss_epoch"
    assert info["best_value"] == pytest.approx(min(losses))
    assert info["best_epoch"] == losses.index(min(losses))
    assert find_run(None).config == config_with()


def test_it_learns_to_walk_up_the_catalogue_and_says_so(prepared):
    train(config_with("training.epochs=40"))
    done = command("predict", "--run", "toy", "--k", "3")
    assert done.exit_code == 0, done.output
    for said in ("test loss", "test entropy", "Recall@1", "Recall@5", "Recall@10", "next item", "whole sequence"):
        assert said in done.stderr
    assert done.stdout.strip() == "reports/toy/recommendations.parquet"
    scores = json.loads(Path("reports/toy/held_out.json").read_text())
    assert scores["n_customers"] == 6
    # The first item of a history is a guess among twenty; all after it are known.
    assert scores["recall_next_item"]["1"] > 0.6
    assert scores["recall_next_item"]["10"] >= scores["recall_next_item"]["5"] >= scores["recall_next_item"]["1"]
    lists = pq.read_table("reports/toy/recommendations.parquet").to_pylist()
    assert len(lists) == 60 * 3
    assert {row["item_id"] for row in lists} <= {f"{number:010d}" for number in range(1, N_ITEMS + 1)}


def test_a_resumed_run_equals_an_uninterrupted_one(prepared, monkeypatch):
    train(config_with("name=whole", "training.epochs=3"))
    original = OriginalModule.on_train_epoch_start

    def interrupted_at_the_second(self):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(OriginalModule, "on_train_epoch_start", interrupted_at_the_second)
    with pytest.raises((RunError, KeyboardInterrupt, SystemExit)):
        train(config_with("name=halves", "training.epochs=3"))
    monkeypatch.setattr(OriginalModule, "on_train_epoch_start", original)
    train(config_with("name=halves", "training.epochs=3"), resume=True)
    whole, halves = (load_file(Path("models") / name / "weights.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_the_learning_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing(prepared):
    seen = []
    original = OriginalModule.training_step

    def noting(self, batch):
        seen.append(self.optimizers().param_groups[0]["lr"])
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OriginalModule, "training_step", noting)
        train(config_with("training.epochs=10", "training.warmup_fraction=0.1"))
    assert len(seen) == 30
    assert seen[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert seen[-1] == pytest.approx(0.01 / 27)
    assert np.diff(seen[3:]) == pytest.approx([-0.01 / 27] * 26)


def test_curves_show_loss_and_entropy_of_both_parts(prepared):
    from recsys.reports.charts import curves_figure, read_log

    train(config_with())
    loss, entropy = curves_figure(read_log(Path("models/toy/metrics.csv"))).axes
    assert entropy.get_title("left") == "Entropy of the predictions"
    for axes in (loss, entropy):
        assert [line.get_label() for line in axes.lines] == ["training, a step", "training", "validation"]
    assert command("plots", "curves", "--run", "toy").exit_code == 0
    assert Path("reports/figures/toy-curves.png").exists()


@pytest.mark.parametrize("protocol", ["weekly", "customers", "leave_one_out"])
def test_lists_are_scored_beside_the_baselines_under_every_protocol(prepared, protocol):
    train(config_with(f"split.protocol={protocol}", "training.epochs=1", "baselines.systems=[popularity, repeat]"))
    found = find_run("toy")
    predict_folds(found)
    done = command("evaluate", "--run", "toy")
    assert done.exit_code == 0
    # What a week's score would come to on the competition's leaderboard is known of weeks alone.
    assert ("private score" in done.stdout) == (protocol == "weekly")
    systems = read_json(Path("reports/toy/metrics.json"))["systems"]
    assert set(systems) == {"decoder", "repeat", "popularity"}
    assert 0 <= systems["decoder"]["map@12"]["value"] <= 1


@pytest.mark.parametrize("protocol", ["weekly", "customers", "leave_one_out"])
def test_the_report_speaks_of_windows_only_where_there_are_some(prepared, protocol):
    train(config_with(f"split.protocol={protocol}", "training.epochs=1", "baselines.systems=[popularity, repeat]"))
    predict_folds(find_run("toy"))
    for verb in ("evaluate", "report"):
        assert command(verb, "--run", "toy").exit_code == 0
    page = Path("reports/toy/index.html").read_text(encoding="utf-8")
    weekly = protocol == "weekly"
    for words in (
        "Week by week",
        'href="#windows"',
        "over all windows",
        "in the window of",
        "bought nothing in a window",
    ):
        assert (words in page) == weekly, words
    assert ("Recommended on " in page) == weekly
    assert "Recommended</h4>" in page or weekly
    assert ("who were asked for their last purchase" in page) != weekly


def test_only_held_out_customers_are_scored_and_only_where_there_are_any(prepared):
    train(config_with("split.protocol=weekly", "training.epochs=1"))
    done = command("predict", "--run", "toy", "--k", "3")
    assert done.exit_code == 0
    assert "test loss" not in done.stderr
    assert not Path("reports/toy/held_out.json").exists()


BERT = ("original.family=bert", "original.hidden_size=null", "text.embeddings=vectors")


def test_text_vectors_stay_frozen_and_the_run_carries_them(prepared):
    vectors = write_vectors(Path("vectors"), N_ITEMS, width=12)
    info = train(config_with(*BERT, "training.epochs=1"))
    saved = load_file("models/toy/weights.safetensors")
    # Rows of the file begin with padding, start and end; rows of the model are item_index.
    assert np.array_equal(saved["vectors"].numpy(), vectors[[0, *range(3, N_ITEMS + 3), 1, 2]])
    assert saved["fc_out.weight"].shape == (N_ITEMS + 3, 12)
    assert info["n_parameters"] == sum(value.numel() for name, value in saved.items() if name != "vectors")
    shutil.rmtree("vectors")
    assert command("predict", "--run", "toy", "--k", "3").exit_code == 0
    assert Path("reports/toy/held_out.json").exists()
    save_weights(
        {name: value for name, value in saved.items() if name != "vectors"}, Path("models/toy/weights.safetensors")
    )
    with pytest.raises(RunError, match="holds no text vectors"):
        command("predict", "--run", "toy", "--k", "3", "--force")


def test_missing_text_vectors_say_what_to_run_first(prepared):
    with pytest.raises(DataError, match="run `recsys dataset embeddings` first"):
        train(config_with(*BERT))
    write_vectors(Path("vectors"), N_ITEMS - 4, width=12)
    with pytest.raises(DataError, match="lacks 4 of the 20 items"):
        train(config_with(*BERT))


def test_what_does_not_fit_the_data_leaves_no_run_behind(prepared):
    with pytest.raises(ConfigError, match="set num_embeds: 23"):
        train(config_with("original.num_embeds=1003"))
    assert not Path("models").exists()


def test_without_a_configuration_the_split_alone_means_the_published_decoder(prepared):
    shutil.move("data/processed/toy", "data/processed/hm-split")
    kept = [change for change in SETTINGS if not change.startswith(("name", "data."))]
    done = command("train", *(part for change in kept for part in ("--set", change)))
    assert done.exit_code == 0
    assert "training the original decoder on ids" in " ".join(done.output.split())
    assert load_config(Path("models/original_id/config.yaml")).data == load_original().data


def test_training_before_preparing_says_what_to_run_first(workplace):
    with pytest.raises(DataError, match=r"run `recsys dataset main --split --set data.name=toy` first"):
        train(config_with("data.top_k_items=5", "data.min_history=2"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.source=completejourney"], "`recsys dataset main` first"),
        (["data.source=hm"], "`recsys dataset main --source hm` first"),
        (["data.name=mine"], "`recsys dataset main --set data.name=mine` first"),
        (["data.source=hm", "data.max_history=9", "data.name=hm-split"], "`recsys dataset main --split` first"),
        (
            ["data.source=synthetic", "data.max_history=9"],
            "`recsys dataset main --split --source synthetic --set data.name=synthetic` first",
        ),
    ],
)
def test_the_command_that_is_named_prepares_the_source_that_is_asked_for(workplace, settings, said):
    with pytest.raises(DataError, match=said):
        train(load_config(None, settings))
