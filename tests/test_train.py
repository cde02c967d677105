"""Training as a command: it resumes exactly, writes a whole run folder, and refuses what cannot be meant."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy import toy_data

from recsys.cli import build_app
from recsys.config import Config, dump_config, load_config
from recsys.console import run as run_app
from recsys.data.purchases import open_purchases
from recsys.errors import ConfigError, DataError, OutputExistsError, RecsysError, RunError
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import make_split
from recsys.modeling.build import build_module, repeatable
from recsys.modeling.decoder.weights import load_weights, save_weights
from recsys.modeling.lists import load_decoder
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.train import train
from recsys.modeling.training.calibration import temperature_names
from recsys.modeling.training.checkpoint import SafetensorsCheckpointIO
from recsys.modeling.training.fit import fit
from recsys.modeling.training.module import PurchaseModule
from recsys.runs import find_run

SETTINGS = [
    "name=toy",
    "data.source=hm",
    "data.name=toy",
    "split.n_folds=1",
    "model.width=16",
    "model.max_length=16",
    "training.batch_tokens=256",
    "training.epochs=2",
    "training.n_negatives=16",
    "training.accelerator=cpu",
    "training.patience=9",
]


def config_with(*changes: str) -> Config:
    return load_config(None, [*SETTINGS, *changes])


@pytest.fixture
def prepared(workplace):
    toy_data(workplace / "data" / "processed", n_users=30, n_items=20, n_days=60, seed=4)
    return workplace


def weights(name="toy"):
    return load_file(Path("models") / name / "weights.safetensors")


def stop_at_epoch(number, settings, monkeypatch, words="--resume"):
    """Train until epoch ``number`` begins, and be interrupted there as by Ctrl-C."""
    original = PurchaseModule.on_train_epoch_start

    def interrupted(self):
        if self.current_epoch == number:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(PurchaseModule, "on_train_epoch_start", interrupted)
        with pytest.raises(RunError, match=words):
            train(settings)


def test_a_run_folder_holds_configuration_weights_log_and_what_made_it(prepared):
    info = train(config_with())
    saved = find_run(None)
    assert saved.name == "toy"
    assert saved.config == config_with()
    assert saved.info == info
    assert {"seed", "device", "code_version", "data_fingerprint", "command", "events_per_second"} <= info.keys()
    assert 0 < info["untrained_value"] < 1
    about = info["transformer"]
    leads = about["whole"], about["new"]
    leads_by_an_error = any(lead["mean"] > lead["standard_error"] for lead in leads)
    assert about["stays"] == (leads_by_an_error and all(lead["mean"] >= -lead["standard_error"] for lead in leads))
    assert about["stays"] == bool(weights()["decoder.norm.weight"].any())
    log = (saved.folder / "metrics.csv").read_text().splitlines()
    assert {"epoch", "step", "train_loss_epoch", "val_map@12"} <= set(log[0].split(","))
    assert list((saved.folder / "tensorboard").rglob("events.out.tfevents.*"))
    assert not list(Path().rglob("*.ckpt"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(prepared):
    train(config_with("training.epochs=1"))
    train(config_with("training.epochs=1", "name=again"))
    train(config_with("training.epochs=1", "name=other", "seed=43"))
    first, again, other = weights("toy"), weights("again"), weights("other")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_resumed_run_equals_an_uninterrupted_one(prepared, monkeypatch):
    train(config_with("name=whole", "training.epochs=3"))
    # The schedule depends on the number of epochs, so the interruption must fall inside the same configuration.
    words = r"interrupted; go on with: recsys train --resume --config models/halves"
    stop_at_epoch(1, config_with("name=halves", "training.epochs=3"), monkeypatch, words)
    with pytest.raises(RunError, match="has not ended"):
        find_run("halves")
    with pytest.raises(OutputExistsError, match=r"was stopped; --resume goes on .* --force begins anew"):
        train(config_with("name=halves", "training.epochs=3"))
    train(config_with("name=halves", "training.epochs=3"), resume=True)
    whole, halves = weights("whole"), weights("halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    epochs = [line.split(",")[0] for line in (Path("models/halves/metrics.csv")).read_text().splitlines()]
    assert len(epochs) > 3


def test_resuming_with_another_configuration_is_refused(prepared):
    train(config_with())
    with pytest.raises(RunError, match="another configuration"):
        train(config_with("model.width=32"), resume=True)
    with pytest.raises(RunError, match="to go on from"):
        train(config_with("name=fresh"), resume=True)


def test_a_run_that_exists_needs_force(prepared):
    train(config_with("training.epochs=1"))
    before = weights()
    with pytest.raises(OutputExistsError, match="--force"):
        train(config_with("training.epochs=1", "seed=1"))
    assert all(torch.equal(before[name], value) for name, value in weights().items())
    train(config_with("training.epochs=1", "seed=1"), force=True)


def test_training_before_preparing_says_what_to_run_first(workplace):
    with pytest.raises(DataError, match="recsys dataset main"):
        train(config_with())


def test_too_few_days_for_the_folds_is_said(prepared):
    with pytest.raises(DataError, match="too short for 20 test windows"):
        train(config_with("split.n_folds=20"))


def test_a_run_on_data_that_changed_is_refused(prepared):
    train(config_with("training.epochs=1"))
    manifest = Path("data/processed/toy/manifest.json")
    manifest.write_text('{"fingerprint": "other"}')
    with pytest.raises(RunError, match="other data"):
        find_run("toy").open_data()


def test_weights_that_do_not_fit_name_the_first_misfit(tmp_path):
    small, large = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    save_weights(small.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RunError, match=r"bias is \(3,\), expected \(4,\)"):
        load_weights(large, tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:20])
    with pytest.raises(RunError, match="not a safetensors file"):
        load_weights(small, tmp_path / "cut.safetensors")


def test_a_checkpoint_comes_back_as_it_went(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    checkpoint = {
        "epoch": 3,
        "state": {0: {"step": torch.tensor(4.0), "betas": (0.9, 0.98), "none": None}},
        "weights": [tied, tied.T],
        "nested": {"a": [1, "b", {"c": False}], 2: "two"},
    }
    writer = SafetensorsCheckpointIO()
    writer.save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    again = writer.load_checkpoint(tmp_path / "c.safetensors")
    assert torch.equal(again["weights"][1], tied.T)
    assert again["state"][0]["betas"] == (0.9, 0.98)
    assert again["nested"] == checkpoint["nested"]
    with pytest.raises(TypeError, match="plain values"):
        writer.save_checkpoint({"function": print}, tmp_path / "d.safetensors")
    assert not (tmp_path / "d.safetensors").exists()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_named_configuration_is_saved_as_it_resolves(path, tmp_path):
    resolved = load_config(path)
    saved = tmp_path / "config.yaml"
    saved.write_text(dump_config(resolved))
    assert load_config(saved) == resolved
    assert yaml.safe_load(saved.read_text())["model"]["width"] == resolved.model.width
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_products_in_bfloat16_train_nearly_to_what_single_precision_does(prepared, loss):
    settings = f"training.loss={loss}", "training.until=test"  # the last epoch is kept
    plain = train(config_with(*settings))
    of_plain = weights()
    mixed = train(config_with(*settings, "training.precision=bfloat16", "name=mixed"))
    assert all(value.dtype == torch.float32 for value in weights("mixed").values() if value.is_floating_point())
    assert any(not torch.equal(value, weights("mixed")[name]) for name, value in of_plain.items())
    assert mixed["best_value"] == pytest.approx(plain["best_value"], abs=0.2)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said_before_the_old_run_is_touched(prepared):
    train(config_with("training.epochs=1"))
    before = weights()
    with pytest.raises(ConfigError, match="none is found here"):
        train(config_with("training.accelerator=gpu"), force=True)
    assert all(torch.equal(before[name], value) for name, value in weights().items())


def test_a_full_disk_leaves_the_run_that_was_to_be_replaced(prepared, monkeypatch):
    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    train(config_with("training.epochs=1"))
    before = weights()
    with monkeypatch.context() as patch:
        patch.setattr("recsys.modeling.decoder.weights.save_file", full)
        with pytest.raises(RecsysError, match="No space left"):
            train(config_with("training.epochs=1", "seed=7"), force=True)
    assert all(torch.equal(before[name], value) for name, value in weights().items())
    assert [path.name for path in Path("models").iterdir()] == ["toy"]
    train(config_with("training.epochs=1", "seed=7"), force=True)
    assert [path.name for path in Path("models").iterdir()] == ["toy"]


def test_resuming_for_fewer_epochs_than_were_trained_is_said(prepared):
    train(config_with())
    with pytest.raises(RunError, match=r"trained for 2 epochs, more than training\.epochs 1; give 2 or more"):
        train(config_with("training.epochs=1"), resume=True)


def test_the_newest_epoch_is_kept_to_go_on_from_even_if_an_earlier_one_was_better(prepared):
    info = train(config_with("training.epochs=4", "training.lr=1e-30"))
    epochs = [
        SafetensorsCheckpointIO().load_checkpoint(f"models/toy/checkpoints/{name}.safetensors")["epoch"]
        for name in ("best", "last")
    ]
    assert epochs == [0, 3]
    assert info["best_epoch"] <= 0


def test_a_training_that_only_harms_keeps_the_state_before_it(prepared, capfd):
    settings = config_with("training.lr=30", "training.ranking_weight=0", "training.epochs=1")
    module = build_module(settings, open_purchases(settings.data.folder, ""))
    module.validate_untrained()
    state = module.state_dict()
    assert not module.choose_transformer(state, is_trained=False).stays
    fresh = module.weights(state)
    with pytest.raises(SystemExit) as stopped:
        run_app(
            build_app("train"),
            [
                "train",
                *(
                    word
                    for one in (*SETTINGS, "training.lr=30", "training.ranking_weight=0")
                    for word in ("--set", one)
                ),
            ],
        )
    assert not stopped.value.code
    said = " ".join(capfd.readouterr().err.split())
    assert "untrained: 2 epochs did not beat it beyond chance" in said
    assert "lists leave the transformer out: it is not trained" in said
    kept = weights()
    assert kept.keys() == fresh.keys()
    assert all(torch.equal(kept[name], value) for name, value in fresh.items())


def test_a_resumed_training_still_knows_that_the_state_before_it_was_better(prepared, monkeypatch):
    settings = config_with("training.lr=30", "training.ranking_weight=0", "training.epochs=3")
    stop_at_epoch(2, settings, monkeypatch)
    info = train(settings, resume=True)
    assert (info["best_epoch"], info["epochs_run"]) == (-1, 3)
    assert info["untrained_value"] == pytest.approx(info["best_value"], abs=1e-6)


def test_a_training_stopped_in_its_first_epoch_has_nothing_to_go_on_from(prepared, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PurchaseModule, "on_train_epoch_start", interrupted)
        with pytest.raises(RunError, match="no epoch was finished"):
            train(config_with())
    with pytest.raises(RunError):
        train(config_with(), resume=True)
    train(config_with(), force=True)


UNDATED = ("split.protocol=leave_one_out", "split.n_folds=0")


def test_a_run_without_a_date_keeps_its_transitions_and_what_they_weigh(prepared):
    info = train(config_with(*UNDATED))
    saved = find_run("toy")
    data = saved.open_data()
    module = build_module(saved.config, data)
    state = SafetensorsCheckpointIO().load_checkpoint("models/toy/checkpoints/best.safetensors")["state_dict"]
    kept, own = weights(), module.model.state_dict()
    buffers = [f"components.transitions.{name}" for name in ("strength_VK", "follower_VK")]
    assert own[buffers[0]].any()
    for name in buffers:
        assert torch.equal(kept[name], own[name])
    weight = state["temperatures"][temperature_names(module.model).index("transitions")].exp()
    torch.testing.assert_close(kept["components.transitions.weight"], weight)
    fold = module.validation.fold
    lists = load_decoder(saved, data).recommend(fold.histories(data), 12, Candidates(all_items(data.n_items)))
    assert average_precisions(lists.item, fold, 12).mean() == pytest.approx(info["best_value"], abs=1e-6)


@pytest.mark.parametrize("components", ["[sales, past_items]", "[sequence]", "[past_items]"])
def test_a_run_of_some_components_trains_is_saved_loaded_and_recommends(prepared, monkeypatch, components):
    settings = f"model.components={components}", "training.epochs=3"
    info = train(config_with("name=whole", *settings))
    assert 0 < info["best_value"] <= 1
    saved = find_run("whole")
    data = saved.open_data()
    decoder, fold = load_decoder(saved, data), make_split(data, saved.config.split).validation
    assert list(decoder.model.components) == [one for one in components[1:-1].split(", ") if one != "sequence"]
    lists = decoder.recommend(fold.histories(data), 12, Candidates(all_items(data.n_items)))
    assert average_precisions(lists.item, fold, 12).mean() == pytest.approx(info["best_value"], abs=1e-6)
    stop_at_epoch(1, config_with("name=halves", *settings), monkeypatch)
    train(config_with("name=halves", *settings), resume=True)
    assert all(torch.equal(weight, weights("halves")[name]) for name, weight in weights("whole").items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.components=[transitions]"], "names 'transitions', which counts whole histories"),
        ([*UNDATED, "model.components=[sequence, sales]"], "names 'sales', which looks at a date"),
        (["baselines.systems=[repeat, populrity]"], "no system 'populrity' among the rules; beside decoder there are"),
    ],
)
def test_components_and_rules_that_do_not_fit_are_refused_before_a_folder_is_touched(prepared, settings, words):
    with pytest.raises(ConfigError, match=words):
        train(config_with(*settings))
    assert not Path("models").exists()


def test_a_library_trains_on_purchases_in_memory_as_the_command_does(prepared, tmp_path, capfd):
    """No folder of data, no bar: the same weights."""
    config = config_with("training.epochs=1")
    train(config)
    capfd.readouterr()
    opened = open_purchases(config.data.folder)
    tables = {"items": opened.items.to_arrow(), "users": opened.users.to_arrow()}
    log = replace(opened, folder=None, tables=tables)
    with repeatable():
        info = fit(config, log, build_module(config, log), tmp_path / "a run", command="python")
    assert capfd.readouterr() == ("", "")
    assert (info["command"], info["data_folder"]) == ("python", "")
    kept = load_file(tmp_path / "a run" / "weights.safetensors")
    assert all(torch.equal(kept[name], weight) for name, weight in weights().items())


def test_a_repeatable_context_leaves_torch_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    with repeatable():
        torch.rand(7)
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.are_deterministic_algorithms_enabled() == before[1]


def test_a_catalogue_smaller_than_a_list_is_learned_from(workplace):
    toy_data(workplace / "data" / "processed", n_users=30, n_items=5, n_days=60, seed=4)
    for name, settings in (("dated", ()), ("undated", UNDATED)):
        with pytest.raises(ConfigError, match="hold 5 items, but lists of"):
            train(config_with(f"name={name}", *settings))
        assert 0 < train(config_with(f"name={name}", "predict.k=4", *settings))["best_value"] <= 1


UNTIL_TEST = ("training.until=test", "training.epochs=3", "training.patience=1")


def test_a_training_until_the_test_window_holds_nothing_out_and_keeps_the_last_epoch(prepared):
    info = train(config_with(*UNTIL_TEST, "training.lr=1e-30"))  # of equal epochs, a metric would keep the first
    assert (info["metric"], info["epochs_run"]) == ("train_loss", 3)
    assert find_run("toy").info["best_epoch"] == 2
    assert info["best_value"] > 0
    with Path("models/toy/metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert "val_map@12" not in rows[0]
    losses = [float(row["train_loss_epoch"]) for row in rows if row["train_loss_epoch"]]
    assert losses[-1] == pytest.approx(info["best_value"])
    last = SafetensorsCheckpointIO().load_checkpoint("models/toy/checkpoints/last.safetensors")["state_dict"]
    kept = weights()
    assert not kept.pop("decoder.norm.weight").any()  # nothing weighs the transformer, so lists leave it out
    assert not kept.pop("decoder.norm.bias").any()
    assert all(torch.equal(last[f"model.{name}"], weight) for name, weight in kept.items())


def test_a_training_until_the_test_window_resumes_to_what_it_would_have_been(prepared, monkeypatch):
    train(config_with("name=whole", *UNTIL_TEST))
    stop_at_epoch(2, config_with("name=halves", *UNTIL_TEST), monkeypatch)
    info = train(config_with("name=halves", *UNTIL_TEST), resume=True)
    assert (info["best_epoch"], info["epochs_run"]) == (2, 3)
    whole, halves = weights("whole"), weights("halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_the_command_says_up_to_where_a_training_without_validation_learned(prepared, capfd):
    with pytest.raises(SystemExit) as stopped:
        run_app(build_app("train"), ["train", *(w for s in (*SETTINGS, *UNTIL_TEST) for w in ("--set", s))])
    assert not stopped.value.code
    said = " ".join(capfd.readouterr().err.split())
    assert "learned up to the first test window, 3 epochs" in said
    assert "lists leave the transformer out: no purchases are held out to weigh it by" in said
    assert "next: recsys predict --run toy" in said


def test_a_training_goes_on_as_it_began_or_not_at_all(prepared, monkeypatch):
    as_it_began = config_with("training.ranking_weight=0")
    stop_at_epoch(1, as_it_began, monkeypatch)
    with pytest.raises(RunError, match=r"training\.ranking_weight was 0\.0, is 10\.0"):
        train(config_with(), resume=True)
    assert train(as_it_began, resume=True)["epochs_run"] == 2


def test_a_training_that_came_to_nothing_has_no_rank(prepared):
    module = build_module(config_with(), open_purchases(config_with().data.folder, ""))
    assert module.validate_untrained() > 0
    with torch.no_grad():
        module.model.past_items.net.out.bias.fill_(torch.nan)
    assert module.validate_untrained() == 0
