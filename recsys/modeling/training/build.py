"""A fresh model over the training part of the data, its components scaled and begun as rules."""

import torch

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.evaluation.splits import Split
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.decoder import build_purchase_model
from recsys.modeling.recommenders.item_knn import nearest_by_cosine
from recsys.modeling.training.batches import TrainingBatches
from recsys.modeling.training.module import PurchaseModule
from recsys.signals.sales import ItemSales

#: Queries over whose catalogues the even chance of past items is taken.
_N_WEIGHED = 256


def _make_repeatable() -> None:
    """Let equal runs give equal weights: else threads that add gradients at one place race for the order.

    A GPU only warns where it has no such way. Memory not yet written need not be filled for it.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _purchase_module(config: Config, data: Purchases, split: Split) -> PurchaseModule:
    training = config.training
    held_out = training.until == "validation"
    split = split if held_out else split.with_validation_learned(data)
    batches = TrainingBatches(
        data,
        split,
        reads=config.model,
        batch_tokens=training.batch_tokens,
        batch_queries=training.batch_queries,
        query_windows=training.query_windows if config.split.protocol == "weekly" else 0,
        horizon_days=config.split.horizon_days,
        seed=config.seed,
        recent_days=training.recent_days if config.split.protocol == "weekly" else None,
    )
    model, sales = build_purchase_model(config.model, data), ItemSales(data)
    _begin_heads(model, batches, sales)
    if model.neighbour_head is not None:
        known = History(data, split.train_end, split.train_day)
        neighbours = nearest_by_cosine(known, model.neighbour_head.cosine_VK.shape[1])
        model.neighbour_head.begin(*(torch.from_numpy(part) for part in neighbours))
    return PurchaseModule(config, model, batches, sales, split.validation if held_out else None)


@torch.no_grad()
def _begin_heads(model: PurchaseModel, batches: TrainingBatches, sales: ItemSales) -> None:
    """Scale what the heads read as the first queries ask for, and let past items begin at an even chance."""
    queries = batches.first_queries()
    if model.sales_head is not None:
        model.sales_head.begin(batches.sales_rows(sales))
    if model.kind_head is not None:
        model.kind_head.scale.fit(queries.category_features_RF)
    if model.companion_head is not None:
        model.companion_head.scale.fit(queries.co_purchase_features_CF)
    if model.repeat_head is not None:
        query_P = queries.past_query_P
        past_PF = queries.past_features_PF[:, : model.repeat_head.n_past]
        rows_PF = torch.cat([past_PF, model.own_sales(sales, queries)], dim=1)
        few = queries.take(torch.arange(min(len(queries.row_Q), _N_WEIGHED)))
        log_catalogue = model.log_catalogue(few, sales)
        model.repeat_head.begin(rows_PF, len(torch.unique(query_P)), log_catalogue)
