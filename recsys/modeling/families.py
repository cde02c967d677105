"""The families of runs: what a run's folder holds, how it is loaded, what it can be asked.

How each is trained stands in :mod:`recsys.modeling.build`, how it places items in
:mod:`recsys.modeling.item_vectors`. Nothing here imports Lightning, which takes longer to load
than a small run takes to answer.
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
    """A family of runs.

    Attributes:
        name: as :attr:`recsys.config.Config.family` names it.
        title: the same in words.
        has_reasons: whether it can say why it recommends an item.
        may_repeat: whether its continued histories may hold an item twice unless said otherwise.
        load: returns the run's decoder; None where the family recommends nothing.
    """

    name: str
    title: str
    has_reasons: bool
    may_repeat: bool
    load: Callable[[Run, Purchases], Decoder] | None


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
