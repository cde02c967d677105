import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_train import config_with
from toy import events_of, toy_data, write_prepared

from recsys.cli import build_app
from recsys.console import run as run_app
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.evaluation.splits import make_split
from recsys.modeling import choice
from recsys.modeling.choice import choose_system, chosen_system
from recsys.modeling.recommenders.base import Recommendations
from recsys.modeling.train import train
from recsys.reports.glossary import system
from recsys.runs import CHOICE_FILE, Run, find_run
from recsys.schema import DECODER

RULES = "baselines.systems=[repeat,popularity]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a trained run, the current one while a test of this file runs."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        toy_data(folder / "data/processed", n_users=30, n_items=20, n_days=60, seed=4)
        train(config_with("training.epochs=1", "split.n_folds=2", "evaluation.n_bootstrap=100", RULES))
        yield folder


@pytest.fixture
def found(place: Path) -> Run:
    return find_run("toy")


def typed(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run_app(build_app(words[0]), list(words))
    return int(stop.value.code or 0)


class Told:
    """A system whose lists are told: ``n_right`` of the customers get what they will buy, first, and others nothing."""

    def __init__(self, fold_of: Purchases, split: object, n_right: int) -> None:
        self.log, self.split, self.n_right = fold_of, split, n_right

    def recommend(self, histories: object, k: int, candidates: object) -> Recommendations:
        fold = self.split.validation
        item = np.zeros((len(fold.user_index), k), dtype=np.int32)
        for row in range(self.n_right):
            own = fold.target_item[fold.target_offsets[row] : fold.target_offsets[row + 1]][:k]
            item[row, : len(own)] = own
        return Recommendations(item, np.zeros_like(item, dtype=np.float32))


def told(monkeypatch: pytest.MonkeyPatch, found: Run, **n_right: int) -> choice.ChosenSystem:
    """Return the choice among systems of which each is right for so many customers."""
    log = found.open_data()
    split = make_split(log, found.config.split)
    monkeypatch.setattr(choice, "systems_of", lambda config, log: list(n_right))
    monkeypatch.setattr(choice, "fit_system", lambda name, *rest: Told(log, split, n_right[name]))
    return choose_system(found, log)


def test_what_is_bought_in_test_windows_has_no_bearing_on_the_choice(found: Run) -> None:
    log = found.open_data()
    split = make_split(log, found.config.split)
    first = choose_system(found, log)
    assert first.n_customers == len(split.validation.user_index)
    assert first.values.keys() == {DECODER, "repeat", "popularity"}
    is_test = log.day >= split.tests[0].start_day
    assert is_test.sum() > 20
    other = np.where(is_test, log.n_items + 1 - log.item, log.item).astype(np.int32)
    assert choose_system(found, replace(log, item=other)) == first


def test_what_is_bought_in_the_validation_window_decides(found: Run) -> None:
    log = found.open_data()
    split = make_split(log, found.config.split)
    first = choose_system(found, log)
    window = (log.day >= split.validation.start_day) & (log.day < split.validation.end_day)
    other = np.where(window, log.n_items + 1 - log.item, log.item).astype(np.int32)
    assert choose_system(found, replace(log, item=other)).values != first.values


def test_the_decoder_serves_only_where_its_lead_exceeds_one_standard_error(
    found: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = len(make_split(found.open_data(), found.config.split).validation.user_index)
    for lead in range(-2, 6):
        made = told(monkeypatch, found, **{DECODER: 5 + lead, "repeat": 5, "popularity": 1})
        # Of n customers, ``lead`` have a precision of 1 more, or less, and the others an equal one.
        assert made.difference == pytest.approx(lead / n)
        apart = np.sign(lead) * (np.arange(n) < abs(lead))
        assert made.standard_error == pytest.approx(apart.std(ddof=1) / np.sqrt(n))
        assert made.best_rule == "repeat"
        assert made.system == (DECODER if made.difference > made.standard_error else "repeat")
        assert made.system == (DECODER if lead > 1 else "repeat")


def test_of_the_rules_the_best_one_serves(found: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(monkeypatch, found, **{DECODER: 0, "repeat": 2, "popularity": 4})
    assert (made.system, made.best_rule) == ("popularity", "popularity")
    assert chosen_system(found) == "popularity"


def test_without_rules_the_decoder_serves(found: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, found, **{DECODER: 0}).system == DECODER


def test_a_choice_is_of_the_training_for_which_it_was_made(
    found: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told(monkeypatch, found, **{DECODER: 0, "repeat": 2})
    assert chosen_system(found) == "repeat"
    again = replace(found, info=found.info | {"created": "2031-01-01T00:00:00"})
    with pytest.raises(
        RunError, match=r"no system is chosen for toy yet; run `recsys predict --folds --run toy` first"
    ):
        chosen_system(again)
    path = found.report_folder / CHOICE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_by": "another"}))
    assert typed("predict", "--run", "toy", "--system", "chosen", "--out", "never.csv") == 1
    error = capfd.readouterr().err
    assert "no system is chosen for toy yet" in error
    assert error.count("\n") == 1
    weekly = found.config.split
    leave_out = found.config.model_copy(update={"split": weekly.model_copy(update={"protocol": "leave_one_out"})})
    with pytest.raises(RunError, match=r"leave_one_out no system is chosen; name one with --system"):
        chosen_system(replace(found, config=leave_out))
    path.unlink()
    assert typed("predict", "--run", "toy", "--system", "chosen", "--out", "never.csv") == 1
    assert not Path("never.csv").exists()


def test_the_chosen_system_is_said_served_and_stands_first_in_the_report(
    found: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed("predict", "--folds", "--run", "toy", "--force") == 0
    made = json.loads((found.report_folder / CHOICE_FILE).read_text())
    said = " ".join(capfd.readouterr().err.split())
    assert f"for these customers: {made['system']} (validation window, {made['n_customers']} customers" in said
    lists = [("chosen", "a.csv"), (made["system"], "b.csv")]
    for name, out in lists:
        assert typed("predict", "--run", "toy", "--k", "3", "--system", name, "--out", out, "--force") == 0
    assert Path("a.csv").read_text() == Path("b.csv").read_text()
    assert typed("evaluate", "--run", "toy", "--force") == 0
    assert typed("report", "--run", "toy", "--force") == 0
    page = (found.report_folder / "index.html").read_text(encoding="utf-8")
    words = " ".join(page[page.index("<body") :].split())
    said_first = f"For these customers use “{system(made['system']).name}”."
    assert words.index(said_first) < words.index("<section")
    assert f"{abs(made['difference']):.4f} {made['metric'].upper()}" in words


def test_a_report_says_no_choice_of_another_training(found: Run) -> None:
    path = found.report_folder / CHOICE_FILE
    made = json.loads(path.read_text())
    path.write_text(json.dumps(made | {"made_by": "another"}))
    assert typed("report", "--run", "toy", "--force") == 0
    path.write_text(json.dumps(made))
    page = (found.report_folder / "index.html").read_text(encoding="utf-8")
    assert 'class="choice"' not in page


def test_a_validation_window_of_one_customer_leaves_the_rule(found: Run, tmp_path: Path) -> None:
    log = found.open_data()
    split = make_split(log, found.config.split)
    events = events_of(log)
    window = (events[:, 1] >= split.validation.start_day) & (events[:, 1] < split.validation.end_day)
    only = split.validation.user_index[0]
    users = [f"u{number}" for number in range(log.n_users)]
    alone = write_prepared(tmp_path / "one", events[~window | (events[:, 0] == only)], n_items=20, users=users)
    made = choose_system(found, alone)
    assert made.n_customers == 1
    assert made.system == made.best_rule
    json.loads((found.report_folder / CHOICE_FILE).read_text())
