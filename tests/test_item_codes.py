"""What the item table says of items: codes, groups and categories, and a codebook that outlives its items."""

import narwhals as nw
import numpy as np
import polars as pl
import pytest

from recsys.signals.item_codes import MAX_CATEGORIES, ItemCodes


def codes_of(**columns) -> ItemCodes:
    n_items = len(next(iter(columns.values())))
    table = pl.DataFrame({"item_id": [f"{n:05d}" for n in range(n_items)]} | columns)
    return ItemCodes.from_items(nw.from_native(table, eager_only=True))


def sized(group_size: int, n_items: int = 200, word: str = "v") -> list[str]:
    """Values of ``n_items`` items, ``group_size`` to each."""
    return [f"{word}{place // group_size}" for place in range(n_items)]


def test_columns_with_the_smallest_groups_are_categories_and_come_first():
    codes = codes_of(large=sized(20), small=sized(4), middle=sized(10))
    assert codes.category_columns == ("small", "middle", "large")
    names = list(codes.codebook)
    assert np.array_equal(codes.categories, codes.attributes[:, [names.index(one) for one in codes.category_columns]])


def test_there_are_no_more_categories_than_cost_little():
    sizes = (20, 10, 8, 5, 4, 3)
    codes = codes_of(**{f"of_{size}": sized(size) for size in sizes})
    assert codes.category_columns == tuple(f"of_{size}" for size in sorted(sizes)[:MAX_CATEGORIES])


@pytest.mark.parametrize(("size", "is_category"), [(1, False), (3, True), (20, True), (25, False)])
def test_a_category_is_neither_nearly_an_item_nor_a_tenth_of_the_catalogue(size, is_category):
    codes = codes_of(column=sized(size), other=sized(100))
    assert codes.category_columns == (("column",) if is_category else ())
    assert codes.categories.shape == (201, int(is_category))
    assert (codes.n_category_codes > 0) == is_category


def test_a_column_that_nearly_names_items_is_no_category():
    assert codes_of(column=[*("abcd" * 2), *[None] * 192]).category_columns == ()


def test_an_item_of_which_a_column_says_nothing_is_alone_there():
    """Unknown is no category: a column that is silent of nine items in ten has no large group of the unknown."""
    silent = [value if place > 180 else None for place, value in enumerate(sized(5))]
    assert codes_of(column=silent).categories.shape == (201, 0)


def test_items_are_grouped_by_the_smallest_groups_that_are_large_enough():
    codes = codes_of(large=sized(50), small=sized(25), too_small=sized(5))
    assert codes.group_column == "small"
    assert len(np.unique(codes.groups[1:])) == 8
    assert np.array_equal(np.bincount(codes.groups)[np.unique(codes.groups[1:])], np.full(8, 25))
    alone = codes_of(too_small=sized(5))
    assert alone.group_column is None
    assert len(np.unique(alone.groups)) == 201


def extended_by(codes, **columns):
    n_items = len(next(iter(columns.values())))
    table = pl.DataFrame({"item_id": [f"new{n}" for n in range(n_items)]} | columns)
    return codes.extended(nw.from_native(table, eager_only=True))


def test_new_items_get_codes_by_the_codebook_and_old_ones_keep_theirs():
    codes = codes_of(group=sized(25), fine=sized(4))
    longer = extended_by(codes, fine=["v3", "never seen", None], group=["v1", "v0", "never seen"])
    assert longer.codebook == codes.codebook
    assert (longer.group_column, longer.category_columns) == (codes.group_column, codes.category_columns)
    for name in ("attributes", "groups", "categories"):
        assert np.array_equal(getattr(longer, name)[:201], getattr(codes, name)), name
        assert getattr(longer, name).dtype == getattr(codes, name).dtype
    assert longer.attributes[201, 1] == codes.codebook["fine"]["v3"]
    assert longer.attributes[201, 0] == codes.codebook["group"]["v1"]
    assert longer.attributes[202:, 1].tolist() == [0, 0]
    assert longer.groups[201] == codes.groups[26]
    assert longer.groups[202] == codes.groups[1]
    assert longer.groups[203] not in longer.groups[:203]  # of an unknown group: alone
    assert longer.codebook == codes.codebook


def test_a_new_item_of_which_a_column_is_missing_is_known_by_the_others():
    codes = codes_of(group=sized(25), fine=sized(4))
    longer = extended_by(codes, fine=["v3"])
    assert longer.attributes[201].tolist() == [0, codes.codebook["fine"]["v3"]]


def test_codes_extended_by_the_rest_of_the_items_are_those_of_all():
    words = sized(25)
    codes, whole = codes_of(group=words[:175], fine=sized(4)[:175]), codes_of(group=words, fine=sized(4))
    longer = extended_by(codes, group=words[:25], fine=sized(4)[:25])
    assert np.array_equal(longer.attributes[:176], codes.attributes)
    assert np.array_equal(longer.attributes[176:], longer.attributes[1:26])
    assert len(longer.groups) == len(whole.groups)


def test_a_column_that_groups_the_items_as_one_before_it_is_not_repeated():
    words = ["red", "blue", "red", "once", "blue", None, "red", "red"]
    numbers = [9, 2, 9, 7, 2, None, 9, 9]
    others = [1, 1, 2, 2, 1, 1, 2, 2]
    items = pl.DataFrame({"item_id": list("abcdefgh"), "colour": words, "colour_code": numbers, "size": others})
    codes = ItemCodes.from_items(nw.from_native(items, eager_only=True)).attributes
    assert codes.shape == (9, 2)
    assert codes[1, 0] == codes[3, 0] == codes[7, 0] == codes[8, 0] != codes[2, 0] == codes[5, 0] != 0
    assert not codes[[4, 6], 0].any()  # alone with its colour, or without one
