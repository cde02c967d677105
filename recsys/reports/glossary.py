"""What systems, metrics and segments are called, and what each means, for a reader who runs a shop."""

import re
from dataclasses import dataclass

from recsys.evaluation.metrics import all_metrics
from recsys.evaluation.metrics.base import Metric
from recsys.evaluation.results import Interval, Scores
from recsys.evaluation.segments import HEAD_SHARE, LAUNCH_DAYS


@dataclass(frozen=True)
class Term:
    """A name and one sentence that says what it means."""

    name: str
    meaning: str


_SYSTEMS = {
    "decoder": Term(
        "Decoder", "The model of this run: reads a customer's purchases in order and says what comes next."
    ),
    "repeat": Term(
        "Buy again", "What the customer bought most, recent purchases counting more; best sellers after that."
    ),
    "variants": Term(
        "Buy again, or a variant",
        "What the customer bought most, then other variants of these products, such as colours; then best sellers.",
    ),
    "covisitation": Term(
        "Bought together", "Products often bought by the same customers as the customer's latest ones."
    ),
    "item_knn": Term("Similar products", "Products whose buyers resemble the buyers of the customer's own (item-kNN)."),
    "als": Term("Matrix factorisation", "Tastes and products as vectors learned from who bought what (ALS)."),
    "popularity_week": Term("Week's best sellers", "The same list for all: what sold most in the week before."),
    "popularity": Term("All-time best sellers", "The same list for all: what sold most since the data begin."),
}

_SEGMENTS = {
    "repeated": Term("Repeat purchases", "only products the customer had bought before count as bought"),
    "newly_launched": Term("New products", f"only products first sold in the {LAUNCH_DAYS} days before count"),
    "tail": Term("Slow sellers", f"only products outside those that make {HEAD_SHARE:.0%} of all sales count"),
    "without_history": Term("New customers", "customers who had bought nothing before"),
    "new": Term("First-time purchases", "only products new to the customer count"),
}


def system(name: str) -> Term:
    """Return what a system is called; an unknown one keeps its name."""
    return _SYSTEMS.get(name, Term(_spaced(name), "A system added to this comparison."))


def metric_name(metric: str) -> str:
    """Return how a metric is printed.

    >>> metric_name("map@12")
    'MAP@12'
    """
    base, at, cutoff = metric.partition("@")
    known = _known(metric)
    return f"{_spaced(base) if known is None else known.title}{at}{cutoff}"


def metric_meaning(metric: str) -> str | None:
    """Return the one-sentence definition of a metric; None for one that is not known here."""
    known = _known(metric)
    return None if known is None else known.meaning


def _known(metric: str) -> Metric | None:
    return all_metrics().get(metric.partition("@")[0])


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


def segment(name: str) -> Term:
    """Return what a segment is called and which customers or purchases it holds.

    >>> segment("history_10-49").name
    '10 to 49 purchases before'
    """
    span = re.fullmatch(r"history_(\d+)(?:-(\d+)|\+)", name)
    if span:
        low, high = span.groups()
        many = f"{low} to {high}" if high else f"{low} or more"
        return Term(f"{many} purchases before", "customers whose history was that long")
    return _SEGMENTS.get(name, Term(_spaced(name), "as named in the evaluation"))


def ordinary(number: float) -> str:
    """Return a whole number with thousands apart.

    >>> ordinary(1469307)
    '1,469,307'
    """
    return f"{number:,.0f}"


def per_hundred(share: float) -> str:
    """Return a share as a number of 100, whole unless it is small.

    >>> per_hundred(0.442), per_hundred(0.022)
    ('44', '2.2')
    """
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}"


@dataclass(frozen=True)
class Verdict:
    """What a run's numbers come to: a headline, a sentence, and whether it is good, mixed or bad news."""

    headline: str
    sentence: str
    tone: str


def verdict(scores: Scores, windows: str) -> Verdict:
    """Return the verdict on the decoder that the numbers allow, in favour of it or not.

    "Beats" and "loses to" are said only where the interval of the difference (where the file has none: the two
    intervals) leaves no doubt. ``windows`` says what was held out, such as "3 held-out weeks".
    """
    metric = scores.main_metric
    rivals = {name: values[metric] for name, values in scores.systems.items() if name != "decoder" and metric in values}
    own = scores.systems.get("decoder", {}).get(metric)
    if own is None:
        return Verdict("The decoder has not been scored", f"On {windows}, only the other systems were scored.", "mixed")
    sides = {name: _side(scores, name, own, other) for name, other in rivals.items()}
    return Verdict(_headline(sides), _sentence(scores, windows, own, rivals), _tone(sides))


def side(difference: Interval) -> int:
    """Return 1 for a difference above zero beyond doubt, -1 for one below, 0 where it is open or has no interval."""
    if difference.low is None or difference.high is None:
        return 0
    return 1 if difference.low > 0 else -1 if difference.high < 0 else 0


def _side(scores: Scores, name: str, own: Interval, other: Interval) -> int:
    """Return :func:`side` of the decoder's lead over ``name``."""
    difference = scores.differences.get(name, {}).get(scores.main_metric)
    if difference is None:
        difference = Interval(0, own.bounds[0] - other.bounds[1], own.bounds[1] - other.bounds[0])
    return side(difference)


def _headline(sides: dict[str, int]) -> str:
    if not sides:
        return "The decoder was scored alone"
    if len(sides) > 2 and len(set(sides.values())) == 1:
        every = {
            1: "beats all {n} other systems",
            -1: "loses to all {n} other systems",
            0: "cannot be told apart from the {n} others",
        }
        return f"The decoder {every[next(iter(sides.values()))].format(n=len(sides))}"
    said = ((1, "beats"), (0, "cannot be told apart from"), (-1, "loses to"))
    parts = [f"{words} {_names(sides, wanted)}" for wanted, words in said if wanted in sides.values()]
    if len(parts) == 1:
        return f"The decoder {parts[0]}"
    return f"The decoder {', '.join(parts[:-1])} {'but' if 1 in sides.values() else 'and'} {parts[-1]}"


def _sentence(scores: Scores, windows: str, own: Interval, rivals: dict[str, Interval]) -> str:
    metric, rate, whose = scores.main_metric, scores.hit_rate, "the decoder's"
    if rate is not None:
        whose = (
            f"of every 100 customers who bought something, {per_hundred(rate.value)} found a purchase of theirs "
            f"among the decoder's {scores.k} suggestions; its"
        )
    text = f"On {windows}, {whose} {metric_name(metric)} is {amount(metric, own.value)} {bounds(metric, own)}".rstrip()
    sellers = ["popularity_week", "popularity"]
    named = [name for name in sellers if name in rivals][:1]
    best = max(rivals, key=lambda name: rivals[name].value, default=None)
    named += [best] if best and best not in named else []
    times = [f"{own.value / rivals[name].value:.3g} times {_quoted(name)}" for name in named if rivals[name].value > 0]
    return f"{text}{': ' if times else ''}{' and '.join(times)}."


def _tone(sides: dict[str, int]) -> str:
    better, worse = 1 in sides.values(), -1 in sides.values()
    return "mixed" if better == worse else "good" if better else "bad"


def _names(sides: dict[str, int], wanted: int) -> str:
    """Return the systems on one side, by name where they are few, else how many."""
    names = [_quoted(name) for name, side in sides.items() if side == wanted]
    if len(names) > 3:
        return f"{len(names)} of {len(sides)} systems"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _quoted(name: str) -> str:
    words = {"popularity_week": "the week's best sellers", "popularity": "the all-time best sellers"}
    return words.get(name, f"“{system(name).name.lower()}”")


def _spaced(name: str) -> str:
    words = name.replace("_", " ").replace("@", " @ ").strip()
    return words[:1].upper() + words[1:]
