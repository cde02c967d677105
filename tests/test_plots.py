import struct
from pathlib import Path

import example_run
import numpy as np
import pytest
from typer.testing import CliRunner

from recsys.cli import build_app
from recsys.errors import OutputExistsError, RunError
from recsys.evaluation.results import load_scores
from recsys.reports import charts
from recsys.reports.charts import read_log
from recsys.storage import write_text


def invoke(*arguments: str):
    return CliRunner().invoke(build_app("plots"), ["plots", *arguments], catch_exceptions=True)


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return struct.unpack(">II", head[16:])


@pytest.fixture
def log(tmp_path):
    write_text(tmp_path / "metrics.csv", example_run.log_text())
    return read_log(tmp_path / "metrics.csv")


def test_a_log_is_read_column_by_column_without_its_empty_cells(log):
    steps, values = log["val_map@12"]
    np.testing.assert_array_equal(steps, [9, 19, 29])
    np.testing.assert_array_equal(values, [0.1, 0.3, 0.2])
    assert len(log["train_loss_step"][0]) == 6


def test_a_log_may_lack_steps_and_hold_words_and_nan(tmp_path):
    write_text(tmp_path / "metrics.csv", "epoch,val_loss,note\n0,1.5,good\n1,nan,bad\n2,1.0,\n")
    log = read_log(tmp_path / "metrics.csv")
    assert list(log) == ["val_loss"]
    np.testing.assert_array_equal(log["val_loss"], [[0, 2], [1.5, 1.0]])


@pytest.mark.parametrize("text", ["", "epoch,step,val_loss\n", "epoch,step,val_loss\n0,1,\n"])
def test_a_log_of_nothing_is_refused(tmp_path, text):
    write_text(tmp_path / "metrics.csv", text)
    with pytest.raises(RunError, match=r"metrics.csv holds no logged value; expected columns such as"):
        read_log(tmp_path / "metrics.csv")


def test_a_missing_log_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"metrics.csv is missing"):
        read_log(tmp_path / "metrics.csv")


def test_curves_show_both_losses_and_the_validation_map(log):
    loss, quality = charts.curves_figure(log).axes
    assert [line.get_label() for line in loss.lines] == ["training, a step", "training", "validation"]
    assert quality.get_title("left") == "MAP@12 on validation"
    assert [text.get_text() for text in quality.texts] == ["best 0.300"]


def test_curves_of_a_log_with_other_columns_are_drawn_all_the_same():
    log = {"perplexity": (np.arange(2.0), np.ones(2))}
    assert [axes.get_title("left") for axes in charts.curves_figure(log).axes] == ["perplexity"]


def test_systems_are_drawn_best_first(workplace):
    scores = load_scores(example_run.write_scores(), "small")
    labels = [label.get_text() for label in charts.systems_figure(scores).axes[0].get_yticklabels()]
    assert labels[:2] == ["Buy again", "Decoder"]
    assert labels[-1] == "All-time best sellers"


def test_differences_and_segments_are_drawn_only_where_there_are_any(workplace):
    found = {key: example_run.scores()[key] for key in ("systems", "folds")}
    scores = load_scores(example_run.write_scores(found=found), "small")
    assert charts.differences_figure(scores) is None
    assert charts.segments_figure(scores, ["decoder"]) is None


@pytest.mark.parametrize("verb", ["curves", "metrics"])
def test_a_verb_writes_a_figure_and_prints_where_it_lies(workplace, verb):
    example_run.write_run()
    example_run.write_scores()
    done = invoke(verb, "--run", "small")
    assert done.exit_code == 0, done.output
    path = Path(f"reports/figures/small-{verb}.png")
    assert done.stdout.strip() == str(path)
    width, height = png_size(path)
    assert width > 1000
    assert height > 300


def test_a_figure_that_exists_is_replaced_only_by_force(workplace):
    example_run.write_run()
    arguments = ("curves", "--run", "small", "--image", "svg")
    assert invoke(*arguments).exit_code == 0
    assert isinstance(invoke(*arguments).exception, OutputExistsError)
    assert invoke(*arguments, "--force").exit_code == 0
    assert Path("reports/figures/small-curves.svg").read_text().startswith("<?xml")


def test_metrics_of_a_run_that_was_not_scored_name_the_command_to_run(workplace):
    example_run.write_run()
    error = invoke("metrics", "--run", "small").exception
    assert isinstance(error, RunError)
    assert "run `recsys evaluate --run small` first" in str(error)
