import copy
import re

import example_run
import pytest

from recsys.errors import RecsysError, RunError
from recsys.evaluation.results import Interval, load_scores
from recsys.storage import write_json, write_text


def load(tmp_path, found):
    write_json(tmp_path / "metrics.json", found)
    return load_scores(tmp_path / "metrics.json", "small")


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = load(tmp_path, example_run.scores())
    assert scores.systems["decoder"]["map@12"] == Interval(0.2, 0.2 - 0.01, 0.2 + 0.01)
    assert [fold.start for fold in scores.folds] == ["2020-03-18", "2020-03-25"]
    assert scores.segment_sizes["repeated"] == 70
    assert scores.differences["repeat"]["map@12"].value == pytest.approx(-0.1)


def test_a_metric_without_an_interval_has_no_bounds(tmp_path):
    coverage = load(tmp_path, example_run.scores()).systems["decoder"]["coverage@12"]
    assert (coverage.low, coverage.high, coverage.bounds) == (None, None, (0.25, 0.25))


def test_only_systems_and_folds_are_needed_and_further_keys_are_left_alone(tmp_path):
    found = {key: example_run.scores()[key] for key in ("systems", "folds")} | {"timing": {"seconds": 3}}
    scores = load(tmp_path, found)
    assert (scores.protocol, scores.segments, scores.segment_sizes, scores.differences) == ({}, {}, {}, {})


def test_differences_told_in_another_way_are_left_out(tmp_path):
    assert load(tmp_path, example_run.scores() | {"differences": [0.1]}).differences == {}


@pytest.mark.parametrize(
    ("metrics", "main", "k"),
    [(["map@5", "map@12"], "map@12", 12), (["recall@5", "map@5"], "map@5", 5), (["novelty"], "novelty", None)],
)
def test_the_main_metric_is_map_at_12_or_the_nearest_to_it(tmp_path, metrics, main, k):
    systems = {"decoder": {metric: {"value": 0.1} for metric in metrics}}
    scores = load(tmp_path, {"systems": systems, "folds": []})
    assert (scores.main_metric, scores.k) == (main, k)


def test_the_hit_rate_is_found_at_the_cutoff_of_the_main_metric(tmp_path):
    scores = load(tmp_path, example_run.scores())
    assert scores.hit_rate == scores.systems["decoder"]["hit_rate@12"]


def test_missing_scores_name_the_command_that_makes_them(tmp_path):
    with pytest.raises(RunError, match=r"metrics.json is missing.*run `recsys evaluate --run small` first"):
        load_scores(tmp_path / "metrics.json", "small")


def changed(place: list, value: object) -> object:
    found: object = copy.deepcopy(example_run.scores())
    if not place:
        return value
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return found


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ([], [], "the file is a list, expected a mapping"),
        (["systems"], None, "systems is missing, expected a mapping"),
        (["systems"], {}, "systems holds no metric"),
        (["systems", "decoder"], 0.3, "systems.decoder is a float, expected a mapping"),
        (["systems", "decoder", "map@12"], 0.3, "systems.decoder.map@12 is a float"),
        (["systems", "decoder", "map@12", "value"], "0.3", "value is a str, expected a number"),
        (["systems", "decoder", "map@12", "value"], True, "value is a bool, expected a number"),
        (["folds"], {}, "folds is a dict, expected a list"),
        (["folds", 0, "systems"], None, r"folds\[0\].systems is missing"),
        (["segments", "tail"], 1, "segments.tail is an int"),
    ],
)
def test_scores_of_another_shape_are_refused_in_one_line_that_names_the_place(tmp_path, place, value, said):
    with pytest.raises(RunError, match=said) as caught:
        load(tmp_path, changed(place, value))
    assert "\n" not in str(caught.value)
    assert re.search(r"recsys evaluate --run small --force", str(caught.value))


def test_a_file_that_is_not_json_is_refused(tmp_path):
    write_text(tmp_path / "metrics.json", "{")
    with pytest.raises(RecsysError, match="is not JSON"):
        load_scores(tmp_path / "metrics.json", "small")
