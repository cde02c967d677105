"""Scenarios: rules of a shop for its lists under a name, and variants of them to compare.

A scenario's settings are :class:`ScenarioSettings`. A request that names it is answered by the rules that
:func:`resolve_rules` returns, which :func:`apply_rules` turns scores into a list by.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from recsys.modeling.wishes import Repeats

_NO_NUL: Final = r"^[^\x00]*$"  # which PostgreSQL does not take
_Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_NO_NUL)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_NO_NUL)]
_Ids = Annotated[tuple[_Id, ...], Field(max_length=1_000)]
_Where = Annotated[dict[_Id, Annotated[tuple[_Id, ...], Field(max_length=200)]], Field(max_length=20)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Boost(_Closed):
    """What is added to the scores of some items."""

    where: _Where = Field(default_factory=dict, description="attribute: values, of which an item has one")
    item_ids: _Ids = ()
    add: Annotated[float, Field(strict=True, ge=-1e6, le=1e6, allow_inf_nan=False, description="in units of the score")]

    @model_validator(mode="after")
    def _names_items_once(self) -> Self:
        if bool(self.where) == bool(self.item_ids):
            both = "both where and item_ids" if self.where else "neither where nor item_ids"
            raise ValueError(f"found {both}; expected one of them: say which items are boosted")
        return self


class Pin(_Closed):
    """An item that has its place in the list."""

    item_id: _Id
    position: Annotated[int, Field(ge=1, le=1_000, description="1 is the first place")]


_Candidates = Literal["all", "on_sale"] | _Ids | None
_Boosts = Annotated[tuple[Boost, ...], Field(max_length=50)]
_Pins = Annotated[tuple[Pin, ...], Field(max_length=50)]
_Share = Annotated[float, Field(strict=True, ge=0, le=1)] | None


class Rules(_Closed):
    """What a list is made by; of what is null the request decides, or the run."""

    candidates: _Candidates = None
    where: _Where = Field(default_factory=dict, description="attribute: values, of which an item has one")
    exclude: _Ids = ()
    boosts: _Boosts = ()
    pins: _Pins = ()
    repeats: Repeats | None = Field(None, description="items bought before: keep, only or none")
    discoveries: _Share = Field(None, description="least share of the list that was never bought before")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        _require_fitting(self)
        return self


class Override(_Closed):
    """What a variant has in place of the scenario's rules; what is null it has from these, [] and {} are none."""

    candidates: _Candidates = None
    where: _Where | None = None
    exclude: _Ids | None = None
    boosts: _Boosts | None = None
    pins: _Pins | None = None
    repeats: Repeats | None = None
    discoveries: _Share = None


class ScenarioSettings(Rules):
    """The rules of a scenario, and variants of them: each customer always gets the same one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "candidates": "on_sale",
                    "discoveries": 0.25,
                    "pins": [{"item_id": "1029743", "position": 1}],
                    "variants": {"as it is": 1, "without pins": 1},
                    "overrides": {"without pins": {"pins": []}},
                }
            ]
        }
    )

    variants: Annotated[
        dict[_Name, Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]],
        Field(max_length=20, description="name: weight, the share of customers being that of the weight"),
    ] = Field(default_factory=dict)
    overrides: dict[_Name, Override] = Field(
        default_factory=dict, description="variant: rules in place of the scenario's"
    )

    @model_validator(mode="after")
    def _variants_are_known(self) -> Self:
        if self.variants and not sum(self.variants.values()):
            raise ValueError("found no variant with a weight above 0; expected one at least: raise a weight")
        for name in self.overrides:
            if name not in self.variants:
                raise ValueError(
                    f"overrides: found {name!r}, which is no variant; expected {list(self.variants)}: add it"
                )
            _require_fitting(resolve_rules(self, name))
        return self


def _require_fitting(rules: Rules) -> None:
    for name in ("position", "item_id"):
        values = [getattr(pin, name) for pin in rules.pins]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"found two pins with {name} {twice}; expected different ones: remove one")
    if rules.repeats == "only" and rules.discoveries:
        raise ValueError("found discoveries with repeats only, which leaves none; expected one of them: remove one")


def choose_variant(scenario: str, settings: ScenarioSettings, key: str) -> str | None:
    """Return the variant of a scenario that the customer (or session) ``key`` gets; None where it has no variants.

    The choice is a hash of both names, so it is the same after a restart, and other for another scenario. A changed
    weight moves no more customers than it must.
    """
    if not settings.variants:
        return None
    digest = hashlib.blake2b(f"{scenario}\0{key}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest) / 2**64 * sum(settings.variants.values())
    for name, weight in sorted(settings.variants.items()):
        place -= weight
        if place < 0:
            return name
    return max(name for name, weight in settings.variants.items() if weight)  # rounding left a rest


def resolve_rules(
    settings: ScenarioSettings | None, variant: str | None = None, request: Mapping[str, Any] | None = None
) -> Rules:
    """Return the rules of a scenario, those of its variant in their place, and those of the ``request`` over both.

    ``request`` holds what it says itself of ``candidates, where, exclude, repeats``. Its attributes of ``where`` take
    the place of the scenario's of that name; its ``exclude`` is added: what a shop excludes does not come back by it.
    """
    said: dict[str, Any] = {}
    if settings is not None:
        said = {name: getattr(settings, name) for name in Rules.model_fields}
        said |= {name: value for name, value in settings.overrides.get(variant or "", Override()) if value is not None}
    own = {name: value for name, value in (request or {}).items() if value is not None}
    if own.get("repeats") == "only":
        said["discoveries"] = None
    said |= {name: own[name] for name in ("candidates", "repeats") if name in own}
    said["where"] = {**said.get("where", {}), **own.get("where", {})}
    said["exclude"] = tuple(dict.fromkeys((*said.get("exclude", ()), *own.get("exclude", ()))))
    return Rules.model_construct(**said)  # a request may hold more ids than a scenario: its limits are its own


class PinnedItem(NamedTuple):
    """A pin whose item has a number; 0 where nobody knows the item."""

    item_index: int
    position: int
    item_id: str


class ListRules(NamedTuple):
    """Rules in the numbers of the catalogue; V is its rows, with padding."""

    k: int
    boost: np.ndarray | None = None  # (V,) float32 added to the scores
    pins: Sequence[PinnedItem] = ()
    repeats: Repeats = "keep"
    discoveries: float = 0.0


class Listed(NamedTuple):
    """A place of a list; the source is "pinned", or None where the score brought the item there."""

    item_index: int
    score: float
    source: Literal["pinned"] | None


def apply_rules(
    item_N: np.ndarray, score_N: np.ndarray, past_items: np.ndarray, rules: ListRules
) -> tuple[list[Listed], list[str]]:
    """Return one list out of the allowed items (N,) and their scores (N,), best first, and warnings.

    Without rules these are the ``k`` best; of equal scores the first. ``past_items`` is what the user has bought. A pin
    has its place among the candidates that ``repeats`` leaves, or else is left out; in a list that is too short for its
    place it stands last. ``discoveries`` replaces the worst items bought before by the best others, if there are some.

    >>> items, scores = np.array([1, 2, 3, 4]), np.array([4.0, 3.0, 2.0, 1.0], np.float32)
    >>> rules = ListRules(k=2, pins=[PinnedItem(4, 1, "d")], discoveries=1.0)
    >>> [place.item_index for place in apply_rules(items, scores, np.array([1]), rules)[0]]
    [4, 2]
    """
    if rules.boost is not None:
        score_N = score_N + rules.boost[item_N]
    is_asked = rules.repeats != "keep" or rules.discoveries > 0
    is_past_N = np.isin(item_N, past_items) if is_asked else np.zeros(len(item_N), bool)
    is_left_N = np.ones(len(item_N), bool) if rules.repeats == "keep" else is_past_N == (rules.repeats == "only")
    pinned, warnings = [], []
    for pin in sorted(rules.pins, key=lambda pin: pin.position):
        place = np.flatnonzero((item_N == pin.item_index) & is_left_N)
        if not len(place):
            warnings.append(f"{pin.item_id!r}, pinned to place {pin.position}, is not among the candidates; left out")
        elif pin.position <= rules.k:
            pinned.append((pin.position, int(place[0])))
            is_left_N[place] = False
    rest, n_rest = np.flatnonzero(is_left_N), rules.k - len(pinned)
    if rules.discoveries:
        n_pinned = sum(not is_past_N[each] for _, each in pinned)
        n_wanted = math.ceil(round(rules.discoveries * rules.k, 9)) - n_pinned
        rest, n_new = _with_discoveries(rest, score_N, ~is_past_N, n_rest, n_wanted)
        if n_new < n_wanted:
            warnings.append(f"only {n_new} of {n_wanted} places for discoveries could be filled")
    else:
        rest = rest[_best(score_N[rest], n_rest)]
    listed = [Listed(int(item_N[each]), float(score_N[each]), None) for each in rest]
    for position, each in pinned:
        listed.insert(position - 1, Listed(int(item_N[each]), float(score_N[each]), "pinned"))
    return listed, warnings


def _with_discoveries(
    places: np.ndarray, score_N: np.ndarray, is_new_N: np.ndarray, n: int, n_wanted: int
) -> tuple[np.ndarray, int]:
    """Return the ``n`` best of ``places``, ``n_wanted`` of them new at least if there are so many, and how many are."""
    of_each = [places[is_new_N[places] == is_new] for is_new in (True, False)]
    best = np.sort(np.concatenate([each[_best(score_N[each], n)] for each in of_each]))
    best = best[_best(score_N[best], len(best))]
    is_new = is_new_N[best]
    n_new = min(max(n_wanted, int(is_new[:n].sum())), int(is_new.sum()))
    return best[np.sort(np.append(np.flatnonzero(is_new)[:n_new], np.flatnonzero(~is_new)[: n - n_new]))], n_new


def _best(score_N: np.ndarray, n: int) -> np.ndarray:
    """Return the places of the ``n`` highest scores, best first, equal ones in their order."""
    among = np.arange(len(score_N))
    if 0 < n < len(score_N):  # sorting a whole catalogue takes longer than all else
        among = np.flatnonzero(score_N >= np.partition(score_N, len(score_N) - n)[len(score_N) - n])
    return among[np.argsort(-score_N[among], kind="stable")][:n]
