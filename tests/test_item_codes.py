"""What the item table says of items: which columns are categories."""

import narwhals as nw
import numpy as np
import polars as pl

from recsys.signals.item_codes import MAX_CATEGORIES, attribute_codes, category_columns


def column(group_size: int, n_items: int = 200, first: int = 1) -> np.ndarray:
    """Codes (V,) of groups of ``group_size`` items each."""
    return np.concatenate([[0], first + np.arange(n_items) // group_size])


def codes(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1)


def test_columns_with_the_smallest_groups_are_kinds_and_come_first():
    large, small, middle = column(20), column(4, first=100), column(10, first=300)
    assert np.array_equal(category_columns(codes(large, small, middle)), codes(small, middle, large))


def test_there_are_no_more_kinds_than_cost_little():
    sizes = (20, 10, 8, 5, 4, 3)
    found = category_columns(codes(*(column(size) for size in sizes)))
    assert np.array_equal(found, codes(*(column(size) for size in sorted(sizes)[:MAX_CATEGORIES])))


def test_of_columns_that_group_all_items_alike_the_first_is_the_kind():
    one, renamed = column(5), column(5, first=70)
    assert np.array_equal(
        category_columns(codes(one, renamed, column(10, first=300))), codes(one, column(10, first=300))
    )


def test_a_kind_is_neither_nearly_an_item_nor_a_tenth_of_the_catalogue():
    nearly_items = np.where(np.arange(201) < 200, 0, 1)
    nearly_items[1:5] = 1
    assert category_columns(codes(nearly_items)).shape == (201, 0)
    assert category_columns(codes(column(1))).shape == (201, 0)
    assert category_columns(codes(column(3))).shape == (201, 1)
    assert category_columns(codes(column(20))).shape == (201, 1)
    assert category_columns(codes(column(25))).shape == (201, 0)


def test_an_item_of_which_a_column_says_nothing_is_alone_there():
    """Unknown is not a kind: a column that is silent of nine items in ten has no large group of the unknown."""
    silent = np.where(np.arange(201) > 180, column(5), 0)
    assert category_columns(codes(silent)).shape == (201, 0)


def test_a_column_that_groups_the_items_as_one_before_it_is_not_told_again():
    words = ["red", "blue", "red", "once", "blue", None, "red", "red"]
    numbers = [9, 2, 9, 7, 2, None, 9, 9]
    others = [1, 1, 2, 2, 1, 1, 2, 2]
    items = pl.DataFrame({"item_id": list("abcdefgh"), "colour": words, "colour_code": numbers, "size": others})
    codes = attribute_codes(nw.from_native(items, eager_only=True))
    assert codes.shape == (9, 2)
    assert codes[1, 0] == codes[3, 0] == codes[7, 0] == codes[8, 0] != codes[2, 0] == codes[5, 0] != 0
    assert not codes[[4, 6], 0].any()  # alone with its colour, or without one
