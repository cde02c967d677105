"""From texts to batches of tokens, and the next token of each as its target."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.config import TextModelConfig
from recsys.errors import ConfigError, UsageError
from recsys.modeling.original.batches import shuffled_batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Tokens of a text at most, marks of begin and end included; the original pads every text to as many.
MAX_TOKENS: Final = 90
_LABEL_OF_PADDING = "[PAD]"


@dataclass(frozen=True)
class Texts:
    """Tokens of n texts, one after another."""

    token: np.ndarray  # (total,) int32
    offsets: np.ndarray  # (n+1,) int64
    vocabulary_size: int
    padding: int
    special: np.ndarray  # (S,) int64 tokens that are no words: padding, begin, end and other marks

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens (n,) of each text."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "Texts":
        """Return the texts ``rows`` alone, in that order."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows], dtype=np.int64)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], self.lengths[rows])
        token = self.token[np.repeat(self.offsets[rows], self.lengths[rows]) + within]
        return replace(self, token=token, offsets=offsets)

    def batch(self, rows: np.ndarray, width: int | None = None) -> Tensor:
        """Return the tokens (B, T) int64 of ``rows``, padded to the longest of them, or to ``width``."""
        lengths = self.lengths[rows]
        columns = np.arange(width or int(lengths.max(initial=1)))
        real = columns < lengths[:, None]
        places = np.where(real, self.offsets[rows][:, None] + columns, 0)
        return torch.from_numpy(np.where(real, self.token[places], self.padding).astype(np.int64))

    def is_word(self, token_BT: Tensor) -> Tensor:
        """Return whether each token (B, T) is part of a word or a sign, not padding and not a mark."""
        return ~torch.isin(token_BT, torch.from_numpy(self.special).to(token_BT.device))


@dataclass  # not frozen: Lightning moves its tensors to the device in place
class TextBatch:
    """Tokens as the model sees them, and what it has to predict: B texts, T positions, M targets."""

    token_BT: Tensor  # int64
    is_padding_BT: Tensor  # bool
    place_M: Tensor  # int64, position in the flattened (B · T)
    target_M: Tensor  # int64, next token at each place


def load_tokenizer(folder: Path, max_tokens: int = MAX_TOKENS) -> "Tokenizer":
    """Return the WordPiece tokenizer in ``folder``, which then cuts texts at ``max_tokens``.

    Raises:
        ConfigError: the folder has no tokenizer.json.
        UsageError: the extra ``text`` is not installed.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise UsageError("the text transformer needs tokenizers; run `pip install 'recsys[text]'`")
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no tokenizer.json; text_model.tokenizer names the folder of a BERT tokenizer"
        )
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def tokenise(texts: Sequence[str], tokenizer: "Tokenizer") -> Texts:
    """Return the tokens of ``texts``, between the marks of begin and end that the tokenizer sets.

    Raises:
        ConfigError: the tokenizer knows no [PAD].
    """
    padding = tokenizer.token_to_id(_LABEL_OF_PADDING)
    if padding is None:
        raise ConfigError(f"the tokenizer lacks {_LABEL_OF_PADDING}; take that of a BERT")
    encoded = tokenizer.encode_batch_fast(list(texts))
    special = {number for number, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    lengths = [len(one.ids) for one in encoded]
    return Texts(
        token=np.fromiter((token for one in encoded for token in one.ids), dtype=np.int32, count=sum(lengths)),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        vocabulary_size=tokenizer.get_vocab_size(),
        padding=padding,
        special=np.array(sorted(special | {padding}), dtype=np.int64),
    )


def split_rows(n: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are learned from and those held out, in random order; at least one of each where n > 1."""
    order = np.random.default_rng(seed).permutation(n)
    n_held_out = min(max(round(held_out * n), 1), n - 1)
    return order[n_held_out:], order[:n_held_out]


class TextBatches(IterableDataset[TextBatch]):
    """Batches of ``rows`` of ``texts``, texts of like length together; their order follows seed and epoch."""

    def __init__(self, texts: Texts, rows: np.ndarray, config: TextModelConfig, seed: int) -> None:
        self.texts, self.rows, self.config, self.seed = texts, rows, config, seed
        self.epoch, self.rank, self.world_size = 0, 0, 1

    def __len__(self) -> int:
        n_batches = -(-len(self.rows) // self.config.batch_texts)
        return -(-n_batches // self.world_size)

    @property
    def n_events(self) -> int:
        """Tokens of an epoch, padding not counted: the speed of training counts them."""
        return int(self.texts.lengths[self.rows].sum())

    def __iter__(self) -> Iterator[TextBatch]:
        random = np.random.default_rng([self.seed, self.epoch])
        shuffled = random.permutation(self.rows)
        batches = shuffled_batches(shuffled, self.texts.lengths, self.config.batch_texts, random)
        batches += batches[: -len(batches) % self.world_size]  # every process takes as many steps
        for rows in batches[self.rank :: self.world_size]:
            yield ask(self.texts, rows, self.config)


def ask(texts: Texts, rows: np.ndarray, config: TextModelConfig) -> TextBatch:
    """Return a batch of ``rows`` that asks for the next token; ``config.objective`` says what each position sees."""
    width = MAX_TOKENS if config.objective == "original" else None
    token_BT = texts.batch(rows, width)
    is_padding_BT = token_BT == texts.padding
    row_M, column_M = torch.nonzero(~is_padding_BT[:, 1:], as_tuple=True)
    target_M = token_BT[row_M, column_M + 1]
    place_M = row_M * token_BT.shape[1] + column_M
    if config.objective == "original":
        is_padding_BT = torch.zeros_like(is_padding_BT)  # its mistake: padding is read like any token
    return TextBatch(token_BT, is_padding_BT, place_M, target_M)
