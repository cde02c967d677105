"""What systems, metrics and segments are called, what values look like, and what a run's numbers come to."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from recsys.config import SplitConfig
from recsys.data.item_names import short_id
from recsys.evaluation.metrics import all_metrics
from recsys.evaluation.metrics.base import Metric
from recsys.evaluation.results import Interval, Scores
from recsys.evaluation.segments import HEAD_SHARE, LAUNCH_DAYS
from recsys.schema import DECODER

#: By :func:`side`, in the order told: what the decoder does, and to whom where it does so to all others.
_SIDES = {
    1: ("beats", "all {} other systems"),
    0: ("cannot be told apart from", "the {} others"),
    -1: ("loses to", "all {} other systems"),
}


class Term(NamedTuple):
    """A name, one sentence that says what it means, and how a sentence of ours names it."""

    name: str
    meaning: str
    spoken: str = ""


@cache
def _terms() -> dict[str, dict[str, Term]]:
    """Return the terms by kind, systems or segments, and by their name in files."""
    text = (Path(__file__).parent / "glossary.yaml").read_text(encoding="utf-8")
    kinds = yaml.safe_load(text.format(launch_days=LAUNCH_DAYS, head_share=f"{HEAD_SHARE:.0%}"))
    return {kind: {name: Term(**texts) for name, texts in terms.items()} for kind, terms in kinds.items()}


def system(name: str) -> Term:
    """Return what a system is called; an unknown one keeps its name."""
    return _terms()["systems"].get(name, Term(_spaced(name), "A system added to this comparison."))


def segment(name: str) -> Term:
    """Return what a segment is called and which customers or purchases it holds."""
    span = re.fullmatch(r"history_(\d+)(?:-(\d+)|\+)", name)
    if span:
        low, high = span.groups()
        many = f"{low} to {high}" if high else f"{low} or more"
        return Term(f"{many} purchases before", "customers whose history was that long")
    return _terms()["segments"].get(name, Term(_spaced(name), "as named in the evaluation"))


def metric_name(metric: str) -> str:
    """Return how a metric is printed, such as MAP@12."""
    base, at, cutoff = metric.partition("@")
    known = _known(metric)
    return f"{_spaced(base) if known is None else known.title}{at}{cutoff}"


def _known(metric: str) -> Metric | None:
    return all_metrics().get(metric.partition("@")[0])


def _spaced(name: str) -> str:
    words = name.replace("_", " ").replace("@", " @ ").strip()
    return words[:1].upper() + words[1:]


def amount(metric: str, value: float, *, signed: bool = False, near: float | None = None) -> str:
    """Return a value of a metric as text: shares as percentages, others with three digits, four where it is small.

    The size of ``near`` (by default of ``value``) decides how many digits are written.

    >>> amount("hit_rate@12", 0.4411), amount("map@12", 0.12345), amount("map@12", 0.002)
    ('44.1%', '0.123', '0.0020')
    """
    known = _known(metric)
    size = abs(value if near is None else near)
    sign = "+" if signed else ""
    if known is not None and known.is_share:
        text = f"{100 * value:{sign}.{2 if 0 < size < 0.001 else 1}f}%"
    else:
        text = f"{value:{sign}.{4 if 0 < size < 0.01 else 3 if size < 2 else 2}f}"
    return text.replace("-", "−")


def bounds(metric: str, interval: Interval, *, signed: bool = False) -> str:
    """Return an interval's ends as ``[low, high]``; nothing where there is no interval."""
    if interval.low is None or interval.high is None:
        return ""
    low, high = (amount(metric, end, signed=signed, near=interval.value) for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def ordinary(number: float) -> str:
    """Return a whole number with thousands apart."""
    return f"{number:,.0f}"


def per_hundred(share: float) -> str:
    """Return a share as a number of 100, whole unless it is small.

    >>> per_hundred(0.442), per_hundred(0.022)
    ('44', '2.2')
    """
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}"


def shown(value: object) -> str:
    """Return a value as text, a hash shortened."""
    text = str(value)
    return short_id(text) if len(text) >= 40 and " " not in text and "/" not in text else text


def flattened(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value of nested JSON as (words, text), so that a report of any shape can be shown.

    >>> list(flattened({"rows": 1200, "dropped": {"bad_date": 3}}))
    [('Rows', '1,200'), ('Dropped: bad date', '3')]
    """
    if isinstance(value, dict) and (value or not prefix):
        for key, inner in value.items():
            words = str(key).replace("_", " ")
            yield from flattened(inner, f"{prefix}: {words}" if prefix else words.capitalize())
    elif isinstance(value, dict | list):
        yield prefix, ", ".join(str(part) for part in value) or "none"
    elif isinstance(value, bool) or value is None:
        yield prefix, {True: "yes", False: "no", None: "not given"}[value]
    elif isinstance(value, int):
        yield prefix, ordinary(value)
    else:
        yield prefix, f"{value:,.4g}" if isinstance(value, float) else shown(value)


def windows(split: SplitConfig, n_folds: int) -> str:
    """Return what was held out, such as ``3 held-out weeks``."""
    if split.protocol == "leave_one_out":
        return "the last purchase of each customer"
    if split.protocol == "customers":
        return "the last purchase of customers never learned from"
    plural = "" if n_folds == 1 else "s"
    length = f"week{plural}" if split.horizon_days == 7 else f"window{plural} of {split.horizon_days} days"
    return f"{n_folds} held-out {length}"


class Verdict(NamedTuple):
    """What a run's numbers come to: a headline, a sentence, and whether it is good, mixed or bad news."""

    headline: str
    sentence: str
    tone: str


def verdict(scores: Scores, windows: str) -> Verdict:
    """Return what the numbers allow to say: "beats" and "loses to" only where an interval leaves no doubt."""
    metric = scores.main_metric
    rivals = {name: values[metric] for name, values in scores.systems.items() if name != DECODER and metric in values}
    own = scores.systems.get(DECODER, {}).get(metric)
    if own is None:
        return Verdict("The decoder has not been scored", f"On {windows}, only the other systems were scored.", "mixed")
    sides = {}
    for name, other in rivals.items():
        by_intervals = Interval(0, own.bounds[0] - other.bounds[1], own.bounds[1] - other.bounds[0])
        sides[name] = side(scores.differences.get(name, {}).get(metric, by_intervals))
    better, worse = 1 in sides.values(), -1 in sides.values()
    tone = "mixed" if better == worse else "good" if better else "bad"
    return Verdict(_headline(sides), _sentence(scores, windows, own, rivals), tone)


def side(difference: Interval) -> int:
    """Return 1 for a difference above zero beyond doubt, -1 for one below, 0 where it is open or has no interval."""
    if difference.low is None or difference.high is None:
        return 0
    return 1 if difference.low > 0 else -1 if difference.high < 0 else 0


def _headline(sides: dict[str, int]) -> str:
    if not sides:
        return "The decoder was scored alone"
    all_alike = len(sides) > 2 and len(set(sides.values())) == 1
    parts = [
        f"{verb} {everyone.format(len(sides)) if all_alike else _names(sides, wanted)}"
        for wanted, (verb, everyone) in _SIDES.items()
        if wanted in sides.values()
    ]
    if len(parts) == 1:
        return f"The decoder {parts[0]}"
    return f"The decoder {', '.join(parts[:-1])} {'but' if 1 in sides.values() else 'and'} {parts[-1]}"


def _names(sides: dict[str, int], wanted: int) -> str:
    names = [_spoken(name) for name, side in sides.items() if side == wanted]
    if len(names) > 3:
        return f"{len(names)} of {len(sides)} systems"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _spoken(name: str) -> str:
    return system(name).spoken or f"“{system(name).name.lower()}”"


def _sentence(scores: Scores, windows: str, own: Interval, rivals: dict[str, Interval]) -> str:
    metric, rate, whose = scores.main_metric, scores.hit_rate, "the decoder's"
    if rate is not None:
        whose = (
            f"of every 100 customers who bought something, {per_hundred(rate.value)} found a purchase of theirs "
            f"among the decoder's {scores.k} suggestions; its"
        )
    text = f"On {windows}, {whose} {metric_name(metric)} is {amount(metric, own.value)} {bounds(metric, own)}".rstrip()
    sellers = [name for name in ("popularity_week", "popularity") if name in rivals][:1]
    best = sorted(rivals, key=lambda name: -rivals[name].value)[:1]
    named = [name for name in dict.fromkeys([*sellers, *best]) if rivals[name].value > 0]
    times = [f"{own.value / rivals[name].value:.3g} times {_spoken(name)}" for name in named]
    return f"{text}{': ' if times else ''}{' and '.join(times)}."
