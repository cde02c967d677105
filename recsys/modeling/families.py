"""The families of runs: how each is loaded, and what it can be asked.

Nothing here imports Lightning, which takes longer to load than a small run takes to answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.original.recommender import OriginalRecommender, load_transformer
from recsys.modeling.recommenders.decoder import DecoderRecommender, build_purchase_model, signals_of
from recsys.runs import WEIGHTS_FILE, Run

#: A run's weights as a system that can be asked for lists and continuations.
Decoder = DecoderRecommender | OriginalRecommender


@dataclass(frozen=True)
class Family:
    """A family of runs."""

    name: str  # as Config.family names it
    title: str
    has_reasons: bool  # whether it can say why it recommends an item
    may_repeat: bool  # whether its continued histories may hold an item twice unless said otherwise
    load: Callable[[Run, Purchases], Decoder] | None  # None where the family recommends nothing


def family_of(config: Config) -> Family:
    """Return the family that a configuration trains."""
    return FAMILIES[config.family]


def load_decoder(run: Run, log: Purchases) -> Decoder:
    """Return the decoder of a run, with its weights, as a system that can be asked.

    Raises:
        RunError: the run's weights do not fit its configuration, or its family recommends nothing.
    """
    family = family_of(run.config)
    if family.load is None:
        raise RunError(
            f"{run.folder} holds {family.title}, which knows no customers and recommends nothing; "
            f"draw its map with `recsys plots map --run {run.name} --embeddings text`, or name a run of a decoder"
        )
    return family.load(run, log)


def load_purchase_decoder(run: Run, log: Purchases) -> DecoderRecommender:
    """Return our own decoder of a run."""
    snapshots, user_codes = signals_of(run.config, log)
    model = build_purchase_model(run.config, snapshots.codes, user_codes, snapshots.n_promoted)
    load_weights(model, run.folder / WEIGHTS_FILE)
    return DecoderRecommender(model, snapshots, user_codes)


def _load_original(run: Run, log: Purchases) -> OriginalRecommender:
    return OriginalRecommender(load_transformer(run, log), run.config.original.seq_max_len)


FAMILIES: Final = {
    family.name: family
    for family in (
        Family("decoder", "our decoder", True, False, load_purchase_decoder),
        Family("original", "an original decoder", False, True, _load_original),
        Family("text", "a text transformer", False, False, None),
    )
}
