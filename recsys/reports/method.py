"""How a run was measured, in words: what was held out, what was known, where the data come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from recsys.config import Config, SplitConfig
from recsys.data.days import day_date
from recsys.data.item_names import short_id
from recsys.data.purchases import Purchases
from recsys.data.sources import all_sources
from recsys.evaluation.bootstrap import CONFIDENCE
from recsys.evaluation.results import Scores
from recsys.evaluation.splits import HELD_OUT_SEED, HELD_OUT_SHARE
from recsys.reports.glossary import ordinary
from recsys.runs import HELD_OUT_FILE, Run
from recsys.storage import read_json

#: The component of the logit that begins as no rule: the transformer.
SEQUENCE = "sequence"

#: (settings key, words) of run.json and what else names a run, in the order shown; other keys follow.
_FACTS = (
    ("command", "Trained with"),
    ("created", "Trained on"),
    ("seed", "Seed"),
    ("code_version", "Code version"),
    ("data_fingerprint", "Data fingerprint"),
)


#: What the epochs are judged by, by protocol.
_VALIDATION = {
    "weekly": "the validation window, which is never learned from",
    "customers": "half of the held-out customers, who are never learned from",
    "leave_one_out": "the purchases held out for validation, which are never learned from",
}


@dataclass(frozen=True)
class HeldOut:
    """Scores on customers that were neither learned from nor chosen by: (what, next item, whole sequence) a row."""

    caption: str
    rows: list[tuple[str, str, str]]


def source_note(config: Config) -> str:
    """Return where the data come from and what must be said wherever they are used."""
    known = all_sources()
    return known[config.data.source].note if config.data.source in known else config.data.source


def windows(split: SplitConfig, n_folds: int) -> str:
    """Return what was held out, such as ``3 held-out weeks``."""
    if split.protocol == "leave_one_out":
        return "the last purchase of each customer"
    if split.protocol == "customers":
        return "the last purchase of customers never learned from"
    one = "week" if split.horizon_days == 7 else f"window of {split.horizon_days} days"
    many = "weeks" if split.horizon_days == 7 else f"windows of {split.horizon_days} days"
    return f"{n_folds} held-out {one if n_folds == 1 else many}"


def protocol(config: Config, scores: Scores) -> list[str]:
    """Return, a sentence or two each, how lists were made and scored."""
    return [
        *_held_out(config, scores),
        f"Every system ranked {scores.protocol.get('candidates', 'the whole range')}: never a sample of them, and the "
        "same for all customers.",
        f"{_who_counts(config, scores)} A customer who is asked and gets no list counts as zero.",
        f"An interval in brackets is the {100 * CONFIDENCE:.0f}% bootstrap interval over customers "
        f"({ordinary(config.evaluation.n_bootstrap)} resamples): were other customers of the same kind asked, the "
        "value would mostly fall in it. Differences between systems are taken customer by customer, which makes them "
        "sharper than two intervals side by side.",
    ]


def _who_counts(config: Config, scores: Scores) -> str:
    if config.split.protocol == "weekly":
        return (
            f"Customers who bought nothing in a window are left out of it{_left_out(scores)}: no list could be right "
            "or wrong for them."
        )
    if config.split.protocol == "customers":
        others = "the others were learned from, or chose the settings, or made a single purchase"
    else:
        others = "the others made too few purchases to hide some and know some"
    return f"Not all customers were asked{_left_out(scores)}: {others}."


def _left_out(scores: Scores) -> str:
    """Return how many were asked and left out, window by window, in brackets; nothing where it was not recorded."""
    asked, left = (scores.protocol.get(key) for key in ("n_users_asked", "n_users_left_out"))
    if not (isinstance(asked, list) and isinstance(left, list)):
        return ""
    numbers = zip(asked, left, strict=False)
    return f" (asked and left out: {', '.join(f'{ordinary(a)} and {ordinary(b)}' for a, b in numbers)})"


def _held_out(config: Config, scores: Scores) -> Iterator[str]:
    split = config.split
    if split.protocol == "leave_one_out":
        yield "The last purchase of each customer is hidden and has to be found; the one before chose the settings."
        yield (
            "This follows the literature and looks into the future of other customers: compare it with published "
            "figures, and do not read it as what a shop would see."
        )
        return
    if split.protocol == "customers":
        share = f"{100 * HELD_OUT_SHARE:.0f}%"
        yield f"{share} of the customers, drawn by seed {HELD_OUT_SEED}, were never learned from."
        yield "Each of them is asked for the last purchase, all earlier ones known; half of them chose the settings."
        return
    starts = [fold.start for fold in scores.folds]
    yield (
        f"Tested: {windows(split, len(starts))}, beginning on {', '.join(starts)}. For each, every system was asked on "
        f"that morning what each customer would buy in the {split.horizon_days} days to come."
    )
    nothing_later = "A list for a window was made with purchases before its first day and nothing later."
    if config.training.until == "test":
        yield (
            "No leak: the decoder's weights learned only from purchases before the first tested window; nothing was "
            f"held out to choose when to stop. The {split.horizon_days} days just before that window chose the "
            f"settings of the rules. {nothing_later}"
        )
        return
    yield (
        "No leak: the decoder's weights learned only from purchases before the validation window, and that window "
        f"({split.horizon_days} days just before the first tested one) chose when to stop, how to weigh the parts of "
        f"a score, and the settings of the rules. {nothing_later}"
    )


def training(config: Config) -> str:
    """Return, in a sentence or two, what training is judged by and which epoch is kept."""
    validation, settings = _VALIDATION[config.split.protocol], config.training
    if settings.until == "test":
        last = f"epoch {settings.epochs}, which is kept"
        return f"Training runs to its end, {last}: no window is held out to validate epochs by."
    if config.original.family is None:
        kept = "the epoch with the best one is kept, or the untrained model where none was better"
        if config.split.protocol == "weekly" and config.model.components != (SEQUENCE,):  # the others begin as rules
            kept += ", or the mean of the two where the gain on its rules is within one standard error"
        weighed = (
            "A few numbers that weigh the parts of a score are fitted to the same purchases, if that ranks them better."
        )
        if settings.patience >= settings.epochs:
            return f"Every epoch ({settings.epochs} in all) is judged by the score on {validation}; {kept}. {weighed}"
        stops = f"stops after {_epochs(settings.patience)} without a better score on {validation}"
        return f"Training {stops}; {kept}. {weighed}"
    kept = f"The epoch with the lowest loss on {validation}, is kept"
    if settings.patience >= settings.epochs:
        return f"{kept}; training always runs to its end, epoch {settings.epochs}, and the loss may rise before that."
    return f"{kept}; training stops after {_epochs(settings.patience)} without a lower one."


def _epochs(n_epochs: int) -> str:
    return "one epoch" if n_epochs == 1 else f"{n_epochs} epochs"


def curves(config: Config) -> str:
    """Return what the chart of training shows."""
    if config.training.until == "test" or config.text_model.objective is not None:
        return "Loss over the steps of training."
    shown = "validation score" if config.original.family is None else "entropy of the predictions"
    return f"Loss and {shown} over the steps of training."


def held_out(run: Run) -> HeldOut | None:
    """Return the scores of an original architecture on held-out customers; None where the run has none."""
    path = run.report_folder / HELD_OUT_FILE
    if run.config.original.family is None or not path.is_file():
        return None
    found = read_json(path)
    rows = [("Loss", f"{found['loss']:.4f}", ""), ("Entropy of the predictions", f"{found['entropy']:.4f}", "")]
    whole = found["recall_whole_sequence"]
    rows += [(f"Recall@{k}", f"{value:.4f}", f"{whole[k]:.4f}") for k, value in found["recall_next_item"].items()]
    people = f"{ordinary(found['n_purchases'])} purchases of {ordinary(found['n_customers'])} customers"
    return HeldOut(f"{people} that were neither learned from nor chose the epoch.", rows)


def data_facts(data: Purchases, config: Config) -> list[tuple[str, str]]:
    """Return what was prepared: (what, value)."""
    return [
        ("Purchases kept", ordinary(data.n_events)),
        ("Customers", ordinary(data.n_users)),
        ("Products", ordinary(data.n_items)),
        ("First day", day_date(data.first_day).isoformat()),
        ("Last day", day_date(data.last_day).isoformat()),
        ("Source", config.data.source),
    ]


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
    elif isinstance(value, float):
        yield prefix, f"{value:,.4g}"
    else:
        yield prefix, _text(value)


def run_facts(run: Run, today: date) -> list[tuple[str, str]]:
    """Return what made the run: (what, value), ids shortened, of run.json's plain values."""
    info = dict(run.info)
    facts = [(words, _fact(info.pop(key))) for key, words in _FACTS if key in info]
    facts += [pair for key, value in info.items() for pair in flattened({key: value})]
    return [*facts, ("This page written", today.isoformat())]


def commands(run: Run) -> list[str]:
    """Return the commands that make this page again, the recorded training command first.

    One that only went on with a training, or named no configuration (what is prepared then decides which model is
    meant), does not make it again: the run's own configuration does.
    """
    recorded = run.info.get("command") or ""
    trained = " ".join(recorded) if isinstance(recorded, list) else str(recorded)
    if "--config" not in trained or "--resume" in trained:
        trained = f"recsys train --config models/{run.name}/config.yaml"
    return [
        trained,
        f"recsys predict --folds --run {run.name}",
        f"recsys evaluate --run {run.name}",
        f"recsys report --run {run.name}",
    ]


def _fact(value: object) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, list) else _text(value)


def _text(value: object) -> str:
    """Return a value as text, a hash shortened."""
    text = str(value)
    return short_id(text) if len(text) >= 40 and " " not in text and "/" not in text else text
