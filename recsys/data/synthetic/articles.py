"""The columns of an invented ``articles.csv``: a tree of departments, product types, colours, and invented words."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class IndexGroup(NamedTuple):
    """The top of the tree: a wardrobe, with its share of the sections and the indexes (code, name) below it."""

    number: str
    name: str
    share: float
    indexes: tuple[tuple[str, str], ...]


class ProductGroup(NamedTuple):
    """Product types that are alike: share of the products, middle price, how readily the same is bought again."""

    name: str
    share: float
    price_cents: int
    again: float  # 0 … 1
    types: tuple[str, ...]


INDEX_GROUPS = (
    IndexGroup("1", "Women", 0.38, (("A", "Women"), ("B", "Women Underwear"), ("C", "Women Accessories"))),
    IndexGroup("2", "Young", 0.14, (("D", "Young"),)),
    IndexGroup("3", "Men", 0.12, (("F", "Men"),)),
    IndexGroup("4", "Children", 0.33, (("G", "Baby"), ("H", "Small"), ("I", "Large"), ("J", "Children Extras"))),
    IndexGroup("26", "Sport", 0.03, (("S", "Sport"),)),
)
PRODUCT_GROUPS = (
    ProductGroup("Upper part", 0.40, 1399, 0.5, ("Top", "T-shirt", "Shirt", "Blouse", "Jumper", "Cardigan", "Jacket")),
    ProductGroup("Lower part", 0.19, 1999, 0.6, ("Trousers", "Jeans", "Skirt", "Shorts", "Leggings")),
    ProductGroup("Whole body", 0.12, 2299, 0.3, ("Dress", "Jumpsuit", "Overall", "Playsuit")),
    ProductGroup("Accessory", 0.11, 999, 0.4, ("Bag", "Scarf", "Belt", "Hat", "Earring", "Necklace", "Gloves")),
    ProductGroup("Underclothes", 0.07, 999, 1.0, ("Bra", "Briefs", "Vest", "Nightdress", "Pyjamas")),
    ProductGroup("Footwear", 0.05, 2499, 0.3, ("Boots", "Sandals", "Trainers", "Slippers")),
    ProductGroup("Bathing", 0.03, 1499, 0.4, ("Swimsuit", "Bikini top", "Swim shorts")),
    ProductGroup("Legwear", 0.03, 699, 1.0, ("Socks", "Tights")),
)
_COLOURS = ("Black", "Blue", "White", "Pink", "Grey", "Red", "Beige", "Green", "Yellow", "Purple")
_COLOUR_SHARE = np.array([0.24, 0.19, 0.13, 0.10, 0.10, 0.06, 0.06, 0.05, 0.04, 0.03])
_SHADES = ("", "Dark ", "Light ", "Bright ", "Dusty ")
_SHADE_SHARE = np.array([0.40, 0.20, 0.22, 0.08, 0.10])
_PATTERNS = ("Plain", "Stripe", "Check", "Dots", "Floral", "Print", "Melange", "Lace")
_PATTERN_SHARE = np.array([0.48, 0.10, 0.07, 0.04, 0.08, 0.13, 0.07, 0.03])


def invented_words(rng: np.random.Generator, n_words: int) -> list[str]:
    """Return invented words of two or three syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    parts = rng.integers(len(syllables), size=(n_words, 3))
    three = rng.random(n_words) < 0.5
    return ["".join(syllables[s] for s in row[: 2 + t]) for row, t in zip(parts.tolist(), three.tolist(), strict=True)]


def _texts(rng: np.random.Generator, department: np.ndarray, n_departments: int, types: list[str]) -> pa.Table:
    """Return name and description (P rows) of the products: each department has words of its own; 0.4 % lack a text."""
    common, own = invented_words(rng, 400), np.array(invented_words(rng, n_departments * 12)).reshape(n_departments, 12)
    pick_common = rng.integers(len(common), size=(len(types), 14)).tolist()
    pick_own = rng.integers(12, size=(len(types), 13)).tolist()
    n_details = rng.integers(4, 13, size=len(types)).tolist()
    missing = (rng.random(len(types)) < 0.004).tolist()
    names, texts = [], []
    for row, product_type in enumerate(types):
        words, shared = own[department[row]], [common[index] for index in pick_common[row]]
        mine = [str(words[index]) for index in pick_own[row]]
        names.append(f"{mine[0].capitalize()} {shared[0]} {product_type.lower()}")
        details = ", ".join(f"{mine[1 + d]} {shared[2 + d]}" for d in range(n_details[row]))
        text = f"{product_type} in {mine[0]} {shared[1]} with {details} and a {mine[0]}."
        texts.append(None if missing[row] else text)
    return pa.table({"prod_name": pa.array(names), "detail_desc": pa.array(texts, pa.string())})


def article_columns(
    rng: np.random.Generator,
    section_of_department: np.ndarray,
    group_of_section: np.ndarray,
    department: np.ndarray,
    product_group: np.ndarray,
    product: np.ndarray,
) -> dict[str, pa.Array]:
    """Return the 23 columns of ``articles.csv`` after the two ids, (V,) strings each, in Kaggle's order.

    Shapes: D departments, S sections, P products; ``department`` and ``product_group`` (P,), ``product`` (V,).
    """
    n_types = np.array([len(group.types) for group in PRODUCT_GROUPS])[product_group]
    type_in_group = rng.integers(1 << 30, size=len(product_group)) % n_types
    types = [PRODUCT_GROUPS[k].types[t] for k, t in zip(product_group.tolist(), type_in_group.tolist(), strict=True)]
    texts = _texts(rng, department, len(section_of_department), types).take(pa.array(product))
    pattern = rng.choice(len(_PATTERNS), size=len(product_group), p=_PATTERN_SHARE)[product]
    columns: dict[str, pa.Array] = {
        "prod_name": texts["prod_name"],
        "product_type_no": _text((200 + 10 * product_group + type_in_group)[product]),
        "product_type_name": pa.array(types).take(pa.array(product)),
        "product_group_name": _named([group.name for group in PRODUCT_GROUPS], product_group[product]),
        "graphical_appearance_no": _text(1_010_001 + pattern),
        "graphical_appearance_name": _named(list(_PATTERNS), pattern),
    }
    columns |= _colour_columns(rng, len(product))
    columns |= _tree_columns(rng, section_of_department, group_of_section, department[product])
    columns["detail_desc"] = texts["detail_desc"]
    return columns


def _colour_columns(rng: np.random.Generator, n_articles: int) -> dict[str, pa.Array]:
    colour = rng.choice(len(_COLOURS), size=n_articles, p=_COLOUR_SHARE)
    shade = rng.choice(len(_SHADES), size=n_articles, p=_SHADE_SHARE)
    names = [f"{_SHADES[s]}{c}" for c in _COLOURS for s in range(len(_SHADES))]
    return {
        "colour_group_code": _text(10 * colour + shade + 1),
        "colour_group_name": _named(names, len(_SHADES) * colour + shade),
        "perceived_colour_value_id": _text(shade + 1),
        "perceived_colour_value_name": _named(["Medium", "Dark", "Light", "Bright", "Dusty"], shade),
        "perceived_colour_master_id": _text(colour + 1),
        "perceived_colour_master_name": _named(list(_COLOURS), colour),
    }


def _tree_columns(
    rng: np.random.Generator, section_of_department: np.ndarray, group_of_section: np.ndarray, department: np.ndarray
) -> dict[str, pa.Array]:
    section = section_of_department[department]
    group = group_of_section[section]
    garments = [f"{word.capitalize()} wear" for word in invented_words(rng, 21)]
    garment = rng.integers(len(garments), size=len(section_of_department))
    names = invented_words(rng, len(garment))
    departments = [f"{n.capitalize()} {garments[g].lower()}" for n, g in zip(names, garment.tolist(), strict=True)]
    above = [INDEX_GROUPS[g] for g in group_of_section.tolist()]
    sections = [f"{g.name} {word}" for g, word in zip(above, invented_words(rng, len(above)), strict=True)]
    indexes = [g.indexes[s % len(g.indexes)] for s, g in enumerate(above)]
    return {
        "department_no": _text(1_100 + 7 * department),
        "department_name": _named(departments, department),
        "index_code": _named([code for code, _ in indexes], section),
        "index_name": _named([name for _, name in indexes], section),
        "index_group_no": _named([g.number for g in INDEX_GROUPS], group),
        "index_group_name": _named([g.name for g in INDEX_GROUPS], group),
        "section_no": _text(1 + section),
        "section_name": _named(sections, section),
        "garment_group_no": _text(1_001 + garment[department]),
        "garment_group_name": _named(garments, garment[department]),
    }


def _text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _named(names: list[str], index: np.ndarray) -> pa.Array:
    return pa.array(names).take(pa.array(index))
