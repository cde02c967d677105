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
    return fill(
        "protocol.html.j2",
        config=config,
        scores=scores,
        windows=windows(config.split, len(scores.folds)),
        n_asked=n_asked,
        confidence=CONFIDENCE,
        held_out_share=HELD_OUT_SHARE,
        held_out_seed=HELD_OUT_SEED,
    )


def _render(context: Context) -> Markup:
    scores = context.scores
    known, names = all_metrics(), dict.fromkeys(metric.partition("@")[0] for metric in scores.metrics)
    return fill(
        "sections/method.html.j2",
        context=context,
        protocol=protocol(context.run.config, scores),
        definitions=[known[name] for name in names if name in known],
        recorded=list(flattened(scores.protocol)),
        file=METRICS_FILE,
    )


SECTION = Section("method", "How it was measured", 100, _render)
