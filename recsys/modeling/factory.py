"""What a configuration trains: the only place that knows all kinds of training."""

import numpy as np
import pytorch_lightning as pl
import torch

from recsys.config import Config
from recsys.embeddings import embeddings_folder, load_embeddings
from recsys.encoder import packaged_model
from recsys.errors import DataError
from recsys.features import ItemSales
from recsys.modeling.baselines.neighbours import nearest_by_cosine
from recsys.modeling.batches import TrainingBatches
from recsys.modeling.models import build_purchase_model, build_transformer
from recsys.modeling.module import PurchaseModule
from recsys.modeling.purchase_model import PurchaseModel
from recsys.modeling.recommend import History
from recsys.modeling.seed_module import SeedModule, build_seed_module
from recsys.modeling.text_batches import Texts, load_tokenizer, tokenise
from recsys.modeling.text_model import TextTransformer
from recsys.prepared import PreparedData
from recsys.splits import Split, make_split
from recsys.texts import item_texts

#: Questions over whose catalogues the even chance of past items is taken.
_N_WEIGHED = 256

Module = PurchaseModule | SeedModule | TextTransformer


def build_module(config: Config, data: PreparedData) -> Module:
    """Return a fresh module, seeded, over the training part of ``data``.

    Raises:
        ConfigError: the configuration does not fit the data.
        DataError: the data are too short for the split, or what the model reads beside them is missing.
    """
    pl.seed_everything(config.seed, verbose=False)
    _make_repeatable()
    if config.text_model.objective is not None:
        return build_text_transformer(config, data)
    split = make_split(data, config.split)
    if config.seed_model.kind is None:
        return _purchase_module(config, data, split)
    vectors = None
    if config.seed_model.kind == "bert":
        vectors = torch.from_numpy(load_embeddings(embeddings_folder(config), data))
    return build_seed_module(config, data, split, build_transformer(config, data, vectors))


def build_text_transformer(config: Config, data: PreparedData) -> TextTransformer:
    """Return a fresh text transformer over the distinct texts of the items.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: the items have no text, or only one.
    """
    texts, _ = tokenised_items(config, data)
    if len(texts) < 2:
        raise DataError(f"{data.folder}: found {len(texts)} distinct item texts, expected at least 2 to learn from")
    return TextTransformer(config, texts, texts.vocabulary_size)


def tokenised_items(config: Config, data: PreparedData) -> tuple[Texts, np.ndarray]:
    """Return the distinct texts of the items as tokens, and the row (n_items,) among them of each item's text."""
    distinct, row = np.unique(np.array(item_texts(data.items, config.text.columns)), return_inverse=True)
    tokenizer = load_tokenizer(config.text_model.tokenizer or packaged_model(), config.text_model.max_tokens)
    return tokenise(distinct.tolist(), tokenizer), row


def _make_repeatable() -> None:
    """Let equal runs give equal weights: else threads that add gradients at one place race for the order.

    A GPU only warns where it has no such way. Memory not yet written need not be filled for it.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _purchase_module(config: Config, data: PreparedData, split: Split) -> PurchaseModule:
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
    """Scale what the heads read as the first questions ask for, and let past items begin at an even chance."""
    questions = batches.first_questions()
    if model.sales_head is not None:
        model.sales_head.begin(batches.sales_rows(sales))
    if model.kind_head is not None:
        model.kind_head.scale.fit(questions.kind_features_RF)
    if model.companion_head is not None:
        model.companion_head.scale.fit(questions.companion_features_CF)
    if model.repeat_head is not None:
        query_P = questions.past_query_P
        past_PF = questions.past_features_PF[:, : model.repeat_head.n_past]
        rows_PF = torch.cat([past_PF, model.own_sales(sales, questions)], dim=1)
        few = questions.take(torch.arange(min(len(questions.row_Q), _N_WEIGHED)))
        log_catalogue = model.log_catalogue(few, sales)
        model.repeat_head.begin(rows_PF, len(torch.unique(query_P)), log_catalogue)
