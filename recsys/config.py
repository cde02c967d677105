"""Typed configuration: a YAML file names a whole run, ``--set a.b=c`` changes one value of it.

A file lists only what differs from the defaults below. An unknown key is an error that names the nearest known one.
"""
# Long because: it is a table of all settings, each with its bounds and its description.

import copy
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, model_validator

from recsys.errors import ConfigError, nearest
from recsys.settings import Section, apply_override, read_yaml, validated

RAW_DIR = Path("data/raw")
INTERIM_DIR = Path("data/interim")
PROCESSED_DIR = Path("data/processed")
MODELS_DIR = Path("models")
REPORTS_DIR = Path("reports")


class DataConfig(Section):
    """Where purchases come from and which of them are kept."""

    source: str = Field(
        "completejourney",
        description="reader, a file of recsys/data/sources: completejourney, hm, synthetic, table (column map), "
        "sequences, or your own",
    )
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="folder in data/processed; else the source"
    )
    raw: Path | None = Field(None, description="folder (or file) of the raw input; data/raw/<source> by default")
    columns: Path | dict[str, Any] | None = Field(None, description="column map of source: table, or its YAML file")
    engine: Literal["polars", "duckdb", "spark"] = Field("polars", description="data engine")
    start: date | None = Field(None, description="first day kept")
    end: date | None = Field(None, description="first day no longer kept")
    top_k_items: int | None = Field(None, ge=1, description="keep only the most sold items")
    min_history: int | None = Field(None, ge=1, description="keep only users with so many kept events at least")
    max_history: int | None = Field(None, ge=1, description="keep only users with so many kept events at most")
    strict: bool = Field(False, description="turn every finding of the validation into an error")

    @model_validator(mode="before")
    @classmethod
    def _own_files_are_a_table(cls, settings: Any) -> Any:  # noqa: ANN401 - whatever a file holds
        """Take whoever names a file or a column map, and no source, to mean their own table."""
        if not isinstance(settings, dict) or settings.get("source") is not None:
            return settings
        raw = settings.get("raw")
        if settings.get("columns") is not None or (raw is not None and not Path(raw).is_dir()):
            return settings | {"source": "table"}
        return settings

    @model_validator(mode="after")
    def _some_length_fits(self) -> Self:
        if self.max_history is not None and (self.min_history or 0) > self.max_history:
            raise ValueError(f"min_history {self.min_history} is above max_history {self.max_history}")
        return self

    @property
    def limits_histories(self) -> bool:
        """Whether users are left out for the length of their history."""
        return self.min_history is not None or self.max_history is not None

    @property
    def prepare_command(self) -> str:
        """The command that writes :attr:`folder`, as one types it."""
        split = self.limits_histories
        command = "recsys dataset main" + (" --split" if split else "")
        if self.source != ("hm" if split else "completejourney"):
            command += f" --source {self.source}"
        usual_name = f"{self.source}-split" if split else self.source
        return command + (f" --set data.name={self.folder.name}" if self.folder.name != usual_name else "")

    @property
    def folder(self) -> Path:
        """Folder of the prepared data."""
        return PROCESSED_DIR / (self.name or self.source)


class TextConfig(Section):
    """What is written about an item, and the BERT that turns it into a vector (`recsys dataset embeddings`)."""

    columns: tuple[str, ...] = Field(
        (
            *("prod_name", "product_type_name", "product_group_name", "graphical_appearance_name", "colour_group_name"),
            *("perceived_colour_value_name", "index_name", "section_name", "detail_desc"),
        ),
        description="columns of the item table that make its text, in this order",
    )
    encoder: str = Field(
        "bert-base-cased",
        min_length=1,
        description="a BERT: a folder, a name on the hub, or packaged-minilm, which needs no network",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the encoder's products; bfloat16 is faster where the processor has it"
    )
    embeddings: Path | None = Field(None, description="folder; data/interim/embeddings/<data>/<encoder> by default")


class SplitConfig(Section):
    """What is learned from, what is chosen on, what is tested on."""

    protocol: Literal["weekly", "customers", "leave_one_out"] = Field(
        "weekly", description="weekly: global time cutoffs; customers: random 80/20; leave_one_out: last item"
    )
    n_folds: int = Field(3, ge=0, description="number of test windows, the last ones of the data")
    horizon_days: int = Field(7, ge=1, description="length of a window in days")
    end: date | None = Field(None, description="first day after the last test window; day after the data by default")


class ModelConfig(Section):
    """The decoder, and the components beside it."""

    width: int = Field(64, ge=8, description="width D of the residual stream")
    n_layers: int = Field(2, ge=1, description="gated blocks of pointwise attention and feed-forward")
    n_heads: int = Field(2, ge=1, description="attention heads H; width is a multiple of it")
    max_length: int = Field(128, ge=2, description="events of a window")
    attention_window: int | None = Field(
        None, ge=1, description="a position sees its last n positions only, in memory linear in max_length; else all"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="share of activations dropped while training")
    time_gaps: bool = Field(True, description="feed days between events, and to the day asked, where there are dates")
    components: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="what scores items: sequence (the transformer), sales, past_items, categories, co_purchases where "
        "the protocol has dates, transitions where it has none; all that fit by default",
    )
    attributes: bool = Field(True, description="let items share what their categorical columns say")
    promotions: bool = Field(True, description="score items by what is promoted in the week from the date on")
    customer: bool = Field(False, description="begin the sequence with what the user table says of the customer")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} is not a multiple of n_heads {self.n_heads}")
        return self


class OriginalConfig(Section):
    """The original decoders: ids or frozen text vectors of articles in, the next article out.

    With a family, the run fits one of them and `model` plays no part; of `training` it reads `epochs`, `lr`,
    `weight_decay`, `warmup_fraction`, `patience`, `accelerator` and `devices`.
    """

    family: Literal["id", "bert"] | None = Field(
        None, description="id: learned item vectors; bert: frozen text vectors; none: the decoder of `model`"
    )
    hidden_size: int | None = Field(None, multiple_of=2, ge=2, description="width; else 256, or that of text vectors")
    num_heads: int = Field(8, ge=1, description="attention heads; hidden_size is a multiple of it")
    num_layers: int = Field(8, ge=1, description="blocks of attention and feed-forward")
    num_embeds: int | None = Field(None, ge=4, description="items and the 3 special tokens; counted by default")
    seq_max_len: int = Field(24, ge=1, description="items of a sequence at most, special tokens not counted")
    batch_size: int = Field(256, ge=1, description="sequences a batch")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size is not None and self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self


class TextModelConfig(Section):
    """The transformer that reads item texts, for the item map.

    With an objective, the run fits it and `model` plays no part; of `training` it reads `epochs`, `lr`,
    `warmup_fraction`, `patience`, `accelerator` and `devices`. A fifth of the texts is held out for validation.
    """

    objective: Literal["causal", "original"] | None = Field(
        None,
        description="causal: say the next token; original: say the next token while every "
        "position sees it; none: the run fits another model",
    )
    tokenizer: Path | None = Field(None, description="folder with a BERT's tokenizer.json; the packaged one by default")
    width: int = Field(128, multiple_of=2, ge=2, description="width D of the token vectors")
    n_layers: int = Field(4, ge=1, description="encoder layers")
    batch_texts: int = Field(128, ge=1, description="texts a batch")

    @property
    def n_heads(self) -> int:
        """Attention heads: 32 columns each, as many as the original has at its width of 128."""
        return max(self.width // 32, 1)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.n_heads:
            raise ValueError(
                f"text_model.width {self.width} is not a multiple of its {self.n_heads} attention heads, "
                "one for 32 columns; take a multiple of 32"
            )
        return self


class TrainingConfig(Section):
    """How the decoder is fitted."""

    epochs: int = Field(10, ge=1, description="passes over the events at most")
    batch_tokens: int | None = Field(
        None,
        ge=64,
        description="events per batch, padding included; by default 4,096, where windows are learned fewer, down to "
        "1,024, so that an epoch has 128 steps",
    )
    lr: float = Field(2e-3, gt=0, description="highest learning rate")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="share of the steps in which lr rises")
    loss: Literal["auto", "full", "sampled"] = Field(
        "auto", description="softmax over all items, or over negatives; auto: full up to 20,000 items, sampled beyond"
    )
    n_negatives: int = Field(256, ge=1, description="negatives of the next-item loss; windows have 8 times as many")
    patience: int = Field(10, ge=1, description="epochs without a better validation score before stopping")
    recent_days: int | None = Field(None, ge=1, description="learn from the last n days before the cutoff only")
    query_windows: int = Field(16, ge=0, description="horizons before the cutoff asked for all that was bought in them")
    until: Literal["validation", "test"] = Field(
        "validation",
        description="validation: learn from what lies before the validation window and keep the epoch that ranks best "
        "in it; test: learn from that window too, up to the first test window, and keep the last epoch",
    )
    apart_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the losses of repeats among the own past and of first purchases among unbought items, "
        "beside that among all",
    )
    ranking_weight: float = Field(10.0, ge=0, description="weight of 1 - smoothed MAP@12 of the order of the own past")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto takes a GPU where there is one")
    devices: int = Field(1, ge=1, description="processes that `recsys train` begins")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the products; weights and sums stay float32. auto: bfloat16 on a GPU, float32 on a processor, "
        "where bfloat16 is faster only if it has instructions for it (AMX)",
    )

    def loss_over(self, n_items: int) -> Literal["full", "sampled"]:
        """Return the loss where the catalogue holds ``n_items``: what auto means there, else what is set.

        >>> [TrainingConfig(loss="auto").loss_over(n_items) for n_items in (20_000, 20_001)]
        ['full', 'sampled']
        """
        if self.loss != "auto":
            return self.loss
        # A step of the full softmax costs as much as the catalogue is large; at 12,101 items it is worth that.
        return "full" if n_items <= 20_000 else "sampled"


class BaselinesConfig(Section):
    """Settings of the rules the decoder is held against."""

    systems: tuple[str, ...] = Field(
        ("repeat", "gp_topfreq", "transitions", "covisitation", "item_knn", "als", "popularity_week", "popularity"),
        description="rules that are run; tifu_knn is one more, and variants, for items that have a variant_column",
    )
    variant_column: str = Field("product_code", min_length=1, description="column that variants of a product share")
    als_factors: int = Field(64, ge=1, description="width of the ALS factors")


class PredictConfig(Section):
    """What is recommended, out of what."""

    k: int = Field(12, ge=1, description="items a customer")
    sold_within_days: int | None = Field(None, ge=1, description="candidates: items sold in the last n days; else all")
    exclude_seen: bool = Field(False, description="list nothing bought before, where epochs are chosen too")
    segment: str | None = Field(None, description="users column by which users without history get popular items")


class EvaluationConfig(Section):
    """How lists are scored."""

    cutoffs: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 5, 10, 12), min_length=1, description="list lengths k")
    n_bootstrap: int = Field(1000, ge=100, description="resamples of the customers")


class Config(Section):
    """A whole run."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="folder of the run under models/")
    seed: int = Field(42, description="seed of Python, NumPy and torch")
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    original: OriginalConfig = OriginalConfig()
    text_model: TextModelConfig = TextModelConfig()
    training: TrainingConfig = TrainingConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    predict: PredictConfig = PredictConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def family(self) -> Literal["decoder", "original", "text"]:
        """What the run fits: our decoder, an original decoder, or the text transformer."""
        if self.text_model.objective is not None:
            return "text"
        return "decoder" if self.original.family is None else "original"

    @model_validator(mode="after")
    def _only_dates_end_learning(self) -> Self:
        if self.training.until == "test" and (self.split.protocol != "weekly" or self.family != "decoder"):
            raise ValueError(
                "training.until is test, known to the decoder of `model` under split.protocol weekly alone; leave it "
                "out, or set it to validation"
            )
        return self


def load_config(path: Path | None = None, overrides: list[str] | None = None) -> Config:
    """Return the configuration in ``path`` (the defaults without one) with ``key.key=value`` overrides applied.

    The flat form of the original ``model_config.yaml``, flat keys and no section of ours, is read as well. A
    ConfigError says what does not fit, and of an unknown key which known one is nearest.
    """
    settings = {} if path is None else _beside(path, read_yaml(path))
    if not settings.keys().isdisjoint(FLAT_KEYS) and settings.keys().isdisjoint(Config.model_fields):
        settings = from_flat(settings, str(path))
    return _overridden(settings, path, overrides)


def _beside(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``settings`` of the file ``path`` with files of purchases that lie beside it found there."""
    data = settings.get("data")
    if not isinstance(data, dict):
        return settings
    for key in ("raw", "columns"):
        value = data.get(key)
        if isinstance(value, str) and (path.parent / value).exists():
            data[key] = str(path.parent / value)
    return settings


def load_original(overrides: list[str] | None = None) -> Config:
    """Return what ``configs/original_id.yaml`` says, the original decoder on ids, with ``overrides`` applied."""
    return _overridden(from_flat({}, "the original decoder"), None, overrides)


def _overridden(settings: dict[str, Any], path: Path | None, overrides: list[str] | None) -> Config:
    if not overrides:
        return validated(settings, Config, "the defaults" if path is None else str(path))
    # What is wrong in the file is said of the file, what --set or another option adds is said of the command line.
    command_line: dict[str, Any] = {}
    for override in overrides:
        apply_override(command_line, override)
        apply_override(settings, override)
    origin = "the command line" if path is None else f"{path} and the command line"
    return validated(settings, Config, origin, command_line)


def dump_config(config: Config) -> str:
    """Return the resolved configuration, defaults included, as YAML."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


#: Flat key → our section and key.
FLAT_KEYS: Final = {
    **{key: ("training", key) for key in ("lr", "epochs")},
    **{key: ("original", key) for key in OriginalConfig.model_fields if key != "family"},
}

#: What ``dataset main --split`` keeps.
SPLIT_RULES: Final[dict[str, Any]] = {"source": "hm", "top_k_items": 1000, "min_history": 2, "max_history": 10}
#: What ``configs/original_id.yaml`` says, for a file that says only the keys above.
PUBLISHED: Final[dict[str, Any]] = {
    "name": "original_id",
    "data": SPLIT_RULES | {"name": "hm-split"},
    "split": {"protocol": "customers"},
    "original": {"family": "id"},
    "training": {"lr": 1e-4, "epochs": 100, "warmup_fraction": 0.1, "weight_decay": 0.0, "patience": 100},
}


def from_flat(settings: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return flat ``settings`` in sections, over what the original training on ids did.

    A ConfigError says that a key is not one of the flat ones, and by ``origin`` where it was written.

    >>> from_flat({"hidden_size": 128}, "model_config.yaml")["original"]
    {'family': 'id', 'hidden_size': 128}
    """
    nested = copy.deepcopy(PUBLISHED)
    for key, value in settings.items():
        if key not in FLAT_KEYS:
            close = nearest(key, FLAT_KEYS)
            hint = f"did you mean {close}?" if close else f"the flat form knows {', '.join(FLAT_KEYS)}"
            raise ConfigError(f"{origin}: unknown key {key}; {hint}")
        section, name = FLAT_KEYS[key]
        nested[section][name] = value
    return nested
