"""Whether LightGBM orders the decoder's candidates better than the decoder: ``python -m benchmarks.rerank --run R``.

LightGBM learns to rank by LambdaRank. For each test window it learns from the windows that had ended by then: the
validation window and earlier test windows. Their candidates come from the run's decoder, whose weights learned only
from what lies before the validation window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from recsys.config import Config
from recsys.console import RunOption, progress, run
from recsys.data.purchases import Histories
from recsys.errors import ConfigError, RunError
from recsys.evaluation.evaluate import print_scores
from recsys.evaluation.metrics.base import hits_of
from recsys.evaluation.results import RunCells
from recsys.evaluation.runs import settings_of
from recsys.evaluation.scoring import FoldLists, score_systems
from recsys.evaluation.splits import Fold, make_split
from recsys.modeling.lists import CHUNK_USERS, fit_system
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.recommenders.base import Candidates, Recommendations, Recommender, candidates_at
from recsys.runs import Run, find_run
from recsys.schema import DECODER
from recsys.signals.past_items import PAST_FEATURES, past_items
from recsys.signals.sales import OWN_FEATURES, own_columns
from recsys.signals.snapshot import Snapshots

if TYPE_CHECKING:
    from lightgbm import Booster, Dataset

RERANK = "rerank"
#: What the decoder says of a pair of customer and candidate.
_OF_SCORE = ("score", "behind_best", "rank")
#: Customers of a window that are learned from, at most.
MAX_CUSTOMERS = 50_000
#: Share of them on which the number of trees is chosen.
_HELD_OUT = 0.2
_SETTINGS = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [12],
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "lambdarank_truncation_level": 20,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    run_name: RunOption = None,
    n_candidates: Annotated[
        int, typer.Option("--candidates", min=12, max=500, help="Items of the decoder that are put in order.")
    ] = 100,
    n_rounds: Annotated[int, typer.Option("--rounds", min=1, help="Trees at most.")] = 300,
) -> None:
    """Learn to put the decoder's candidates in order, and print both systems' scores on the test folds."""
    trained = find_run(run_name)
    keep_freed_memory()
    print_scores(score_reranked(trained, n_candidates=n_candidates, n_rounds=n_rounds))


def score_reranked(found: Run, *, n_candidates: int = 100, n_rounds: int = 300) -> RunCells:
    """Return what the decoder and the second stage score on the test folds, in the shape of ``metrics.json``.

    Raises:
        ConfigError: the run's protocol has no windows that end before others begin.
        RunError: the run has no test folds, or no customer bought any candidate in the windows before one.
    """
    _require_windows(found)
    folds = make_split(found.open_data(), found.config.split).tests
    if not folds:
        raise RunError(f"{found.name} has no test folds (split.n_folds is 0): there is nothing to rerank")
    ranked = rerank_folds(found, n_candidates=n_candidates, n_rounds=n_rounds)
    return score_systems([FoldLists(fold, lists) for fold, lists in ranked], settings_of(found.config))


def rerank_folds(found: Run, *, n_candidates: int, n_rounds: int) -> Iterator[tuple[Fold, dict[str, np.ndarray]]]:
    """Yield each test fold of a run with the items (Q, k) int32 that the decoder and the second stage list in it."""
    data, config = found.open_data(), found.config
    split = make_split(data, config.split)
    snapshots = Snapshots(data, promotions=config.model.promotions)
    learned: list[Ranked] = []
    with progress() as bar:
        task = bar.add_task("windows", total=len(split.tests))
        for ended, fold in zip((split.validation, *split.tests), split.tests, strict=False):
            learned.append(_learned_from(found, ended, snapshots, n_candidates))
            booster = _fit(learned, config.seed, n_rounds, found.name)
            candidates = candidates_at(data, fold.start_day, config.predict)
            decoder = fit_system(DECODER, found, config, fold.everybody(data))
            systems = (decoder, Reranked(decoder, booster, snapshots, n_candidates))
            histories = fold.histories(data)
            yield fold, {one.name: _listed(one, histories, config.predict.k, candidates) for one in systems}
            bar.advance(task)


def _listed(system: Recommender, histories: Histories, k: int, candidates: Candidates) -> np.ndarray:
    """Return the items (Q, k) int32 that ``system`` lists for each of ``histories``."""
    chunks = (histories.of(slice(begin, begin + CHUNK_USERS)) for begin in range(0, len(histories), CHUNK_USERS))
    return np.concatenate([system.recommend(chunk, k, candidates).item for chunk in chunks])


def fit_reranked(found: Run, known: Histories, *, n_candidates: int = 100, n_rounds: int = 300) -> "Reranked":
    """Return the second stage of a run, which learned from the windows that had ended by ``known.day``.

    Raises:
        ConfigError: the run's protocol has no windows that end before others begin.
        RunError: no customer bought any candidate in them.
    """
    _require_windows(found)
    data, config = known.log, found.config
    split, snapshots = make_split(data, config.split), Snapshots(data, promotions=config.model.promotions)
    ended = [fold for fold in (split.validation, *split.tests) if fold.end_day <= known.day]
    learned = [_learned_from(found, fold, snapshots, n_candidates) for fold in ended]
    booster = _fit(learned, config.seed, n_rounds, found.name)
    return Reranked(fit_system(DECODER, found, config, known), booster, snapshots, n_candidates)


def can_rerank(config: Config) -> bool:
    """Return whether a run's decoder is asked about windows that it did not learn from."""
    return config.split.protocol == "weekly" and config.training.until == "validation"


def _require_windows(found: Run) -> None:
    if found.config.split.protocol != "weekly":
        raise ConfigError(
            f"{found.name} has split.protocol {found.config.split.protocol}: only weekly has windows to learn from"
        )
    if not can_rerank(found.config):
        raise ConfigError(
            f"{found.name} has training.until test: its decoder knows the windows that a booster would learn from, "
            "whose scores say nothing there; train with training.until validation"
        )


@dataclass(frozen=True)
class Reranked:
    """The decoder's best candidates in the order that a booster gives them.

    A customer without a history keeps the decoder's list: of such the booster knows nothing but what sells.
    """

    decoder: Recommender
    booster: "Booster"
    snapshots: Snapshots
    n_candidates: int
    name: str = RERANK

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best of the decoder's ``n_candidates`` for each of ``histories``."""
        n_candidates = _depth(self.n_candidates, k, candidates)
        lists = self.decoder.recommend(histories, n_candidates, candidates)
        rows = pair_features(histories, lists, self.snapshots)
        score = np.asarray(self.booster.predict(rows, num_threads=1), dtype=np.float32).reshape(lists.item.shape)
        known = histories.n_events > 0
        score[~known] = lists.score[~known]
        order = np.argsort(-score, axis=1, kind="stable")[:, :k]  # of equals the one that the decoder puts first
        item, score = (np.take_along_axis(values, order, axis=1) for values in (lists.item, score))
        return Recommendations(item, score)


def _depth(n_candidates: int, k: int, candidates: Candidates) -> int:
    return max(k, min(n_candidates, int(np.count_nonzero(candidates.allowed))))


@dataclass(frozen=True)
class Ranked:
    """Candidates of the customers of a window that had ended, and which of them were bought.

    Shapes: Q customers, K candidates each, F features.
    """

    features: np.ndarray  # (Q, K, F) float32
    bought: np.ndarray  # (Q, K) bool


def _learned_from(found: Run, fold: Fold, snapshots: Snapshots, n_candidates: int) -> Ranked:
    """Return what a window teaches: of customers who bought a candidate and, at the same time, not all of them."""
    config, data = found.config, snapshots.log
    candidates, histories = candidates_at(data, fold.start_day, config.predict), fold.histories(data)
    k = _depth(n_candidates, config.predict.k, candidates)
    decoder = fit_system(DECODER, found, config, fold.everybody(data))
    drawn = np.random.default_rng(config.seed).permutation(len(fold.user_index))[:MAX_CUSTOMERS]
    features, bought = [], []
    for begin in range(0, len(drawn), CHUNK_USERS):
        chosen = np.sort(drawn[begin : begin + CHUNK_USERS])
        lists = decoder.recommend(histories.of(chosen), k, candidates)
        counts = np.diff(fold.target_offsets)[chosen]
        targets = np.concatenate([fold.target_item[slice(*fold.target_offsets[row : row + 2])] for row in chosen])
        hits = hits_of(lists.item, np.concatenate([[0], np.cumsum(counts)]), targets) > 0
        teaches = hits.any(axis=1)
        kept = Recommendations(lists.item[teaches], lists.score[teaches])
        features.append(pair_features(histories.of(chosen[teaches]), kept, snapshots).reshape(len(kept.item), k, -1))
        bought.append(hits[teaches])
    return Ranked(np.concatenate(features), np.concatenate(bought))


def feature_names(snapshots: Snapshots) -> tuple[str, ...]:
    """Return the names of what the booster knows of a customer and a candidate."""
    of_item: tuple[str, ...] = ()
    of_past: tuple[str, ...] = ()
    if snapshots.promotions is not None:
        of_item, of_past = snapshots.promotions.features, snapshots.promotions.past_features
    return (*_OF_SCORE, *OWN_FEATURES, *of_item, *PAST_FEATURES, *of_past)


def pair_features(histories: Histories, lists: Recommendations, snapshots: Snapshots) -> np.ndarray:
    """Return what is known (Q · K, F) float32 of each customer and candidate at the histories' day.

    ``lists`` are those of ``histories``, row by row. The F features are those of :func:`feature_names`; what is not
    known of a pair is NaN.
    """
    log, snapshot, (n_users, k) = histories.log, snapshots.at(histories.day), lists.item.shape
    rows = np.full((n_users * k, len(feature_names(snapshots))), np.nan, dtype=np.float32)
    item = lists.item.ravel()
    rows[:, 0] = lists.score.ravel()
    rows[:, 1] = (lists.score[:, :1] - lists.score).ravel()
    rows[:, 2] = np.tile(np.arange(1, k + 1), n_users)
    of_item = snapshot.item_features[:, own_columns(snapshots.n_promoted)]
    first_past = len(_OF_SCORE) + of_item.shape[1]
    rows[:, len(_OF_SCORE) : first_past] = of_item[item]
    day = np.full(n_users, histories.day)
    promoted = None if snapshots.promotions is None else snapshots.promoted_sums
    past = past_items(
        {histories.day: snapshot.hazards},
        snapshot.codes.groups,
        log,
        histories.user_index,
        histories.end,
        day,
        promoted,
    )
    if not len(past.item):
        return rows
    span = log.n_items + 1
    known, wanted = past.query * span + past.item, np.repeat(np.arange(n_users), k) * span + item
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)  # pairs are sorted by query, then item
    bought_before = known[place] == wanted
    n_past = rows.shape[1] - first_past
    rows[bought_before, first_past:] = past.features[place[bought_before], :n_past]
    return rows


def _fit(learned: list[Ranked], seed: int, n_rounds: int, name: str) -> "Booster":
    """Return trees fitted to the windows, their number chosen on a part of the customers."""
    import lightgbm

    if sum(len(window.bought) for window in learned) < 2:
        raise RunError(
            f"{name}: fewer than two customers bought a candidate in the windows before a test fold, so there is "
            "nothing to learn an order from; raise --candidates, or train the decoder longer"
        )
    random = np.random.default_rng(seed)
    parts: list[list[Ranked]] = [[], []]
    for window in learned:
        order = random.permutation(len(window.bought))
        n_held_out = round(_HELD_OUT * len(order))
        for part, rows in zip(parts, (order[n_held_out:], order[:n_held_out]), strict=True):
            part.append(Ranked(window.features[rows], window.bought[rows]))
    train = _dataset(parts[0])
    settings = _SETTINGS | {"seed": seed, "num_threads": 1}
    if not sum(len(window.bought) for window in parts[1]):
        return lightgbm.train(settings, train, n_rounds)
    stopping = lightgbm.early_stopping(20, verbose=False)
    return lightgbm.train(settings, train, n_rounds, valid_sets=[_dataset(parts[1], train)], callbacks=[stopping])


def _dataset(windows: list[Ranked], reference: "Dataset | None" = None) -> "Dataset":
    import lightgbm

    rows = np.concatenate([window.features.reshape(-1, window.features.shape[-1]) for window in windows])
    label = np.concatenate([window.bought.ravel() for window in windows]).astype(np.float32)
    group = np.concatenate([np.full(len(window.bought), window.bought.shape[1]) for window in windows])
    return lightgbm.Dataset(rows, label, group=group, reference=reference)


if __name__ == "__main__":
    run(app)
