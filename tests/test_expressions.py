from datetime import date, datetime, timedelta

import narwhals as nw
import numpy as np
import pyarrow as pa
import pytest

from recsys.data.days import day_number
from recsys.data.engine import open_engine
from recsys.data.expressions import day_of, millisecond_of_day, number

EVERY_DAY = [date(1896, 1, 1) + timedelta(days=n) for n in range(366 * 212)]
NO_DATES = [
    *("2020-13-45", "2021-02-29", "1900-02-29", "2020-02-30", "2020-04-31", "2020-00-10", "2020-10-00", "0000-01-01"),
    *("2020-1-1", "20200101", "2020-01-01x", "2020-01-01T", "2020-01-01T24:00", "2020-01-01T12:60", "nonsense"),
    "٢٠٢٠-٠١-٠١",
]


def evaluate(engine: str, values: list, expression, kind: pa.DataType | None = None) -> list:
    rows = pa.table({"row": range(len(values)), "value": pa.array(values, kind)})
    with open_engine(engine) as opened:
        frame = opened.from_arrow(rows)
        return opened.collect(frame.select("row", result=expression)).sort_by("row")["result"].to_pylist()


@pytest.fixture(params=["polars", "duckdb"])
def engine(request):
    return request.param


def days(engine: str, texts: list) -> list:
    found = evaluate(engine, texts, day_of("value", nw.String()), pa.string())
    return [None if day is None else day_number(day) for day in found]


def test_every_day_has_the_number_that_the_calendar_gives_it(engine):
    assert days(engine, [day.isoformat() for day in EVERY_DAY]) == [day_number(day) for day in EVERY_DAY]


def test_dates_that_do_not_exist_are_null_and_leap_days_are_not(engine):
    assert days(engine, [*NO_DATES, None, ""]) == [None] * (len(NO_DATES) + 2)
    assert days(engine, ["2000-02-29", " 2020-02-29 ", "2020-02-29 23:59:59.123456789"]) == [11016, 18321, 18321]


def test_typed_days_and_times_agree_with_text(engine):
    moments = [datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(2020, 2, 29, 0, 0, 1), None]
    expected = [date(1969, 12, 31), date(2020, 2, 29), None]
    assert evaluate(engine, moments, day_of("value", nw.Datetime()), pa.timestamp("us")) == expected
    typed = evaluate(engine, moments, millisecond_of_day("value", nw.Datetime()), pa.timestamp("ns"))
    texts = [None if moment is None else moment.isoformat(sep=" ") for moment in moments]
    assert typed == evaluate(engine, texts, millisecond_of_day("value", nw.String()), pa.string())
    assert typed == [86_399_999, 1000, 0]


def test_a_time_of_day_may_stop_at_any_unit(engine):
    texts = [
        "2020-01-01",
        "2020-01-01T01:02",
        "2020-01-01 01:02:03",
        "2020-01-01 01:02:03.5",
        "2020-01-01 00:00:00.0789",
    ]
    expected = [0, 3_720_000, 3_723_000, 3_723_500, 78]
    assert evaluate(engine, texts, millisecond_of_day("value", nw.String())) == expected


def test_what_is_not_a_finite_number_is_nan(engine):
    texts = [
        "1",
        " 0.0209152542372881",
        "-3.5e-2",
        ".5",
        "5.",
        "1e99",
        "",
        None,
        "abc",
        "1,5",
        "nan",
        "inf",
        "1e999",
        "--1",
    ]
    found = evaluate(engine, texts, number("value", nw.String()), pa.string())
    expected = [1, 0.0209152542372881, -0.035, 0.5, 5, 1e99] + [np.nan] * 8
    np.testing.assert_array_equal(np.array(found), expected)


def test_missing_and_infinite_numbers_of_a_numeric_column_are_nan(engine):
    found = evaluate(engine, [1.5, None, float("inf"), float("nan")], number("value", nw.Float64()), pa.float64())
    np.testing.assert_array_equal(np.array(found), [1.5, np.nan, np.nan, np.nan])
