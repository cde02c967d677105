"""The decoders that can be asked, untrained or with the weights of a run; of training this knows nothing.

Nothing here imports Lightning, which takes longer to load than a small run takes to answer.
"""

from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.original.recommender import OriginalRecommender, load_transformer
from recsys.modeling.recommenders.decoder import DecoderRecommender, build_purchase_model
from recsys.runs import WEIGHTS_FILE, Run
from recsys.signals.sales import ItemSales


def load_decoder(found: Run, data: Purchases) -> DecoderRecommender | OriginalRecommender:
    """Return the decoder of a run, with its weights, as a system that can be asked.

    Raises:
        RunError: the run's weights do not fit its configuration, or it fitted the text transformer.
    """
    if found.config.text_model.objective is not None:
        raise RunError(
            f"{found.folder} holds a text transformer, which knows no customers and recommends nothing; "
            f"draw its map with `recsys plots map --run {found.name} --embeddings text`, or name a run of a decoder"
        )
    if found.config.original.kind is not None:
        return OriginalRecommender(load_transformer(found, data), found.config.original.seq_max_len)
    model = build_purchase_model(found.config.model, data)
    load_weights(model, found.folder / WEIGHTS_FILE)
    return DecoderRecommender(model, ItemSales(data))
