"""The families of runs; without Lightning, which takes longer to load than a small run takes to answer."""

from typing import Final

from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.modeling.original.recommender import OriginalRecommender, load_transformer
from recsys.modeling.recommenders.decoder import DecoderRecommender, load_purchase_decoder, signals_of
from recsys.runs import Run

#: What messages call a ``Config.family``.
TITLES: Final = {"decoder": "our decoder", "original": "an original decoder", "text": "a text transformer"}


def load_decoder(run: Run, log: Purchases) -> DecoderRecommender | OriginalRecommender:
    """Return the decoder of a run as a system for lists and continuations; a RunError where it is none."""
    config = run.config
    if config.family == "text":
        raise RunError(
            f"{run.folder} holds {TITLES['text']}, which knows no customers and recommends nothing; "
            f"draw its map with `recsys plots map --run {run.name} --embeddings text`, or name a run of a decoder"
        )
    if config.family == "original":
        return OriginalRecommender(load_transformer(run, log), config.original.seq_max_len)
    return load_purchase_decoder(run, *signals_of(config, log))
