"""Which model a configuration means: the only place that knows all kinds."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recsys.config import Config, ModelConfig
from recsys.embeddings import embeddings_folder, load_embeddings
from recsys.encoder import packaged_model
from recsys.errors import ConfigError, DataError, RunError
from recsys.features import ItemSales
from recsys.modeling.baselines.neighbours import nearest_by_cosine
from recsys.modeling.batches import TrainingBatches, customers_told, events_told
from recsys.modeling.checkpoint import load_weights
from recsys.modeling.item_tower import scaled_texts
from recsys.modeling.module import PurchaseModule
from recsys.modeling.purchase_model import PurchaseModel
from recsys.modeling.recommend import DecoderRecommender, History
from recsys.modeling.seed_batches import N_SPECIAL
from recsys.modeling.seed_models import Transformer
from recsys.modeling.seed_module import SeedModule, build_seed_module
from recsys.modeling.seed_recommend import SeedRecommender
from recsys.modeling.text_batches import Texts, load_tokenizer, tokenise
from recsys.modeling.text_model import TextTransformer
from recsys.prepared import PreparedData
from recsys.runs import WEIGHTS_FILE, Run
from recsys.splits import Split, make_split
from recsys.texts import item_texts

#: Name of the text vectors among the decoder's weights.
_ITEM_TEXTS = "items.text_NE"

#: Width of the published decoder on ids.
#: Questions over whose catalogues the even chance of past items is taken.
_N_WEIGHED = 256
_ID_WIDTH = 256


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


def load_decoder(
    found: Run, data: PreparedData, sales: ItemSales | None = None
) -> DecoderRecommender | SeedRecommender:
    """Return the decoder of a run, with its weights, as a system that can be asked.

    Args:
        found: the run.
        data: the purchases.
        sales: what the sales head reads; up to the date asked by default.

    Raises:
        RunError: the run's weights do not fit its configuration, or it fitted the text transformer.
    """
    if found.config.text_model.objective is not None:
        raise RunError(
            f"{found.folder} holds a text transformer, which knows no customers and recommends nothing; "
            f"draw its map with `recsys plots map --run {found.name} --embeddings text`, or name a run of a decoder"
        )
    if found.config.seed_model.kind is not None:
        return SeedRecommender(load_transformer(found, data), found.config.seed_model.seq_max_len)
    path = found.folder / WEIGHTS_FILE
    text_NE = _room_for_texts(path, _ITEM_TEXTS) if found.config.model.text else None
    model = build_purchase_model(found.config.model, data, text_NE)
    load_weights(model, path)
    return DecoderRecommender(model, ItemSales(data) if sales is None else sales)


def build_purchase_model(config: ModelConfig, data: PreparedData, text_NE: Tensor | None = None) -> PurchaseModel:
    """Return our model for ``data``, not trained."""
    return PurchaseModel(
        config,
        torch.from_numpy(data.attributes),
        torch.from_numpy(data.kinds),
        text_NE,
        n_event_codes=int(events_told(data, config).max(initial=0)) + 1,
        n_customer_codes=int(customers_told(data, config).max(initial=0)) + 1,
        n_promoted=len(data.promotions.features) if config.promotions and data.promotions is not None else 0,
    )


def load_transformer(found: Run, data: PreparedData) -> Transformer:
    """Return the published architecture that a run fitted, with its weights and, where it reads any, its text vectors.

    Raises:
        RunError: the run's weights do not fit its configuration.
    """
    path = found.folder / WEIGHTS_FILE
    vectors = None
    if found.config.seed_model.kind == "bert":
        vectors = _room_for_texts(path, "vectors")
    model = build_transformer(found.config, data, vectors)
    load_weights(model, path)
    return model


def _room_for_texts(path: Path, name: str) -> Tensor:
    """Return zeros of the shape of the text vectors that are stored with the weights in ``path`` as ``name``."""
    try:
        with safe_open(path, framework="pt") as file:
            return torch.zeros(file.get_slice(name).get_shape())
    except SafetensorError as error:
        raise RunError(f"{path} holds no text vectors ({error}); train again with --force") from error


def build_transformer(config: Config, data: PreparedData, vectors: Tensor | None = None) -> Transformer:
    """Return the published architecture for ``data``, on frozen ``vectors`` (V, D) where the kind is bert.

    Raises:
        ConfigError: ``num_embeds``, ``hidden_size`` or ``num_heads`` does not fit; the message says what does.
    """
    chosen, n_tokens = config.seed_model, data.n_items + N_SPECIAL
    if chosen.num_embeds not in (None, n_tokens):
        raise ConfigError(
            f"seed_model.num_embeds is {chosen.num_embeds}, but {data.folder} holds {data.n_items} items and there are "
            f"{N_SPECIAL} special tokens; set num_embeds: {n_tokens}, or leave it out"
        )
    width = (chosen.hidden_size or _ID_WIDTH) if vectors is None else vectors.shape[1]
    if chosen.hidden_size not in (None, width):
        raise ConfigError(
            f"seed_model.hidden_size is {chosen.hidden_size}, but the text vectors of {data.folder} are {width} wide; "
            f"set hidden_size: {width}, or leave it out"
        )
    if width % chosen.num_heads:
        raise ConfigError(
            f"seed_model.num_heads is {chosen.num_heads}, which does not divide the width {width}; "
            f"set num_heads: {np.gcd(width, 8)}, for example"
        )
    return Transformer(
        n_tokens,
        width,
        num_heads=chosen.num_heads,
        num_layers=chosen.num_layers,
        dropout=chosen.dropout,
        vectors=vectors,
    )


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
    text_NE = None
    if config.model.text:
        vectors = torch.from_numpy(load_embeddings(embeddings_folder(config), data))
        text_NE = scaled_texts(vectors[: data.n_items + 1])
    model, sales = build_purchase_model(config.model, data, text_NE), ItemSales(data)
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
