"""The section that says how scores were measured."""

from markupsafe import Markup

from recsys.config import Config
from recsys.evaluation.bootstrap import CONFIDENCE
from recsys.evaluation.metrics import all_metrics
from recsys.evaluation.results import METRICS_FILE, Scores
from recsys.evaluation.splits import HELD_OUT_SEED, HELD_OUT_SHARE
from recsys.reports.glossary import flattened, windows
from recsys.reports.sections.base import Context, Section, fill


def protocol(config: Config, scores: Scores) -> Markup:
    """Return, as items of a list, how lists were made and scored."""
    asked, left = (scores.protocol.get(key) for key in ("n_users_asked", "n_users_left_out"))
    n_asked = list(zip(asked, left, strict=False)) if isinstance(asked, list) and isinstance(left, list) else None
    drawn = {"confidence": CONFIDENCE, "held_out_share": HELD_OUT_SHARE, "held_out_seed": HELD_OUT_SEED}
    held_out = windows(config.split, len(scores.folds))
    return fill("protocol.html.j2", config=config, scores=scores, windows=held_out, n_asked=n_asked, **drawn)


def _render(context: Context) -> Markup:
    scores = context.scores
    known, names = all_metrics(), dict.fromkeys(metric.partition("@")[0] for metric in scores.metrics)
    definitions, recorded = [known[name] for name in names if name in known], list(flattened(scores.protocol))
    said = {"definitions": definitions, "recorded": recorded, "file": METRICS_FILE}
    how = protocol(context.run.config, scores)
    return fill("sections/method.html.j2", context=context, protocol=how, **said)


SECTION = Section("method", "How it was measured", 100, _render)
