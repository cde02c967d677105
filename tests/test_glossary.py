import example_run
import pytest

from recsys.evaluation.results import Interval, load_scores
from recsys.reports import glossary as wording
from recsys.storage import write_json


@pytest.fixture
def validate(tmp_path):
    """Returns the verdict on a decoder of a value against baselines of others, all ± 0.01 unless said otherwise."""

    def verdict(decoder: float | None, differences: dict | None = None, **others: float):
        values = others if decoder is None else {"decoder": decoder, **others}
        systems = {
            name: {
                "map@12": {"value": value, "low": value - 0.01, "high": value + 0.01},
                "hit_rate@12": {"value": 0.44},
            }
            for name, value in values.items()
        }
        found = {"systems": systems, "folds": [], "differences": differences or {}}
        write_json(tmp_path / "metrics.json", found)
        return wording.verdict(load_scores(tmp_path / "metrics.json", "small"), "3 held-out weeks")

    return verdict


def test_a_decoder_above_all_others_beats_them(validate):
    verdict = validate(0.2, repeat=0.1, als=0.08, popularity=0.05)
    assert verdict.headline == "The decoder beats all 3 other systems"
    assert verdict.tone == "good"


def test_a_decoder_below_the_others_is_said_to_lose(validate):
    verdict = validate(0.02, repeat=0.1, popularity=0.05)
    assert verdict.headline == "The decoder loses to “buy again” and the all-time best sellers"
    assert verdict.tone == "bad"


def test_a_decoder_between_others_wins_and_loses(validate):
    verdict = validate(0.1, repeat=0.2, popularity_week=0.05)
    assert verdict.headline == "The decoder beats the week's best sellers but loses to “buy again”"
    assert verdict.tone == "mixed"


def test_overlapping_intervals_cannot_be_told_apart(validate):
    assert validate(0.1, repeat=0.11).headline == "The decoder cannot be told apart from “buy again”"


def test_many_systems_are_counted_and_not_listed(validate):
    assert (
        validate(0.1, repeat=0.1, als=0.1, popularity=0.1).headline
        == "The decoder cannot be told apart from the 3 others"
    )


def test_small_and_large_ends_of_an_interval_have_equal_digits():
    assert wording.bounds("map@12", Interval(0.005, 0.0, 0.0137)) == "[0.0000, 0.0137]"


def test_the_interval_of_the_difference_decides_where_there_is_one(validate):
    sharp = {"repeat": {"map@12": {"value": -0.01, "low": -0.012, "high": -0.008}}}
    assert validate(0.1, sharp, repeat=0.11).headline == "The decoder loses to “buy again”"


def test_the_sentence_holds_the_figures(validate):
    assert validate(0.12, repeat=0.16, popularity_week=0.05).sentence == (
        "On 3 held-out weeks, of every 100 customers who bought something, 44 found a purchase of theirs among the "
        "decoder's 12 suggestions; its MAP@12 is 0.120 [0.110, 0.130]: 2.4 times the week's best sellers and 0.75 "
        "times “buy again”."
    )


def test_a_rival_that_never_hits_divides_nothing_by_zero(validate):
    assert validate(0.12, popularity=0.0).sentence.endswith("0.120 [0.110, 0.130].")


def test_a_difference_without_an_interval_decides_nothing(validate):
    assert validate(0.1, {"repeat": {"map@12": {"value": 0.09}}}, repeat=0.01).headline == (
        "The decoder cannot be told apart from “buy again”"
    )


def test_without_a_decoder_nothing_is_claimed(validate):
    assert validate(None, repeat=0.1).headline == "The decoder has not been scored"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("repeated", "Repeat purchases"),
        ("new", "First-time purchases"),
        ("without_history", "New customers"),
        ("newly_launched", "New products"),
        ("tail", "Slow sellers"),
        ("history_100+", "100 or more purchases before"),
        ("history_20-99", "20 to 99 purchases before"),
        ("history_500+", "500 or more purchases before"),
        ("left_handed", "Left handed"),
    ],
)
def test_segments_are_named_in_words(name, words):
    assert wording.segment(name).name == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("map@12", 0.1234, "0.123"),
        ("map@12", 0.00203, "0.0020"),
        ("map@12", 0.0, "0.000"),
        ("hit_rate@12", 0.0004, "0.04%"),
        ("recall@12", 1.0, "100.0%"),
        ("novelty@12", 8.128, "8.13"),
    ],
)
def test_amounts_keep_the_digits_that_say_something(metric, value, text):
    assert wording.amount(metric, value) == text


def test_a_difference_shows_its_sign():
    assert wording.bounds("map@12", Interval(0.0, -0.0123, 0.02), signed=True) == "[−0.012, +0.020]"


def test_every_system_that_reports_compare_has_a_name_in_words():
    for name in example_run.VALUES:
        assert wording.system(name).meaning != wording.system("unheard of").meaning
