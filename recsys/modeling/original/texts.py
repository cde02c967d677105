"""From texts to batches of tokens, and the next token of each as its target."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recsys.config import Config, TextModelConfig
from recsys.data.purchases import Purchases
from recsys.errors import ConfigError, UsageError
from recsys.modeling.original.batches import EpochBatches
from recsys.modeling.original.embeddings import item_texts, packaged_model

#: Tokens of a text at most, marks of begin and end included; the original pads every text to as many.
MAX_TOKENS: Final = 90


@dataclass(frozen=True)
class Texts:
    """Tokens of n texts."""

    tokens: list[Tensor]  # n times int64
    vocabulary_size: int
    padding: int
    special: Tensor  # (S,) int64 tokens that are no words: padding, begin, end and other marks

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens (n,) of each text."""
        return np.array([len(text) for text in self.tokens])

    def take(self, rows: np.ndarray) -> "Texts":
        return replace(self, tokens=[self.tokens[row] for row in rows])

    def batch(self, rows: np.ndarray) -> Tensor:
        """Return the tokens (B, T) int64 of ``rows``, padded to the longest of them."""
        return nn.utils.rnn.pad_sequence(self.take(rows).tokens, batch_first=True, padding_value=self.padding)


class TextBatch(NamedTuple):
    """Tokens as the model sees them, and what it has to predict: B texts, T positions, M targets."""

    token_BT: Tensor  # int64
    is_padding_BT: Tensor  # bool
    place_M: Tensor  # int64, position in the flattened (B · T)
    target_M: Tensor  # int64, next token at each place


def tokenise(texts: Sequence[str], folder: Path, max_tokens: int = MAX_TOKENS) -> Texts:
    """Return the tokens of ``texts`` by the WordPiece tokenizer in ``folder``, between its marks of begin and end."""
    if importlib.util.find_spec("tokenizers") is None:
        raise UsageError("the text transformer needs tokenizers; run `pip install 'recsys[text]'`")
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no tokenizer.json; text_model.tokenizer names that of a BERT tokenizer")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    padding = tokenizer.token_to_id("[PAD]")
    if padding is None:
        raise ConfigError("the tokenizer lacks [PAD]; take that of a BERT")
    tokens = [torch.tensor(one.ids, dtype=torch.int64) for one in tokenizer.encode_batch_fast(list(texts))]
    special = {number for number, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    return Texts(tokens, tokenizer.get_vocab_size(), padding, torch.tensor(sorted(special | {padding})))


def tokenised_items(config: Config, data: Purchases) -> tuple[Texts, np.ndarray]:
    """Return the distinct texts of the items as tokens, and the row (n_items,) among them of each item's text."""
    distinct, row = np.unique(np.array(item_texts(data.items, config.text.columns)), return_inverse=True)
    return tokenise(distinct.tolist(), config.text_model.tokenizer or packaged_model()), row


def text_batches(texts: Texts, config: TextModelConfig, seed: int) -> EpochBatches:
    """Return batches of ``texts`` in an order of seed and epoch."""
    return EpochBatches(texts.lengths, config.batch_texts, lambda rows: ask(texts, rows, config), seed)


def ask(texts: Texts, rows: np.ndarray, config: TextModelConfig) -> TextBatch:
    """Return a batch of ``rows`` that asks for the next token."""
    token_BT = texts.batch(rows)
    if config.objective == "original":
        token_BT = nn.functional.pad(token_BT, (0, MAX_TOKENS - token_BT.shape[1]), value=texts.padding)
    is_padding_BT = token_BT == texts.padding
    has_next_BT = nn.functional.pad(~is_padding_BT[:, 1:], (0, 1), value=False)
    place_M = has_next_BT.flatten().nonzero()[:, 0]
    target_M = token_BT.flatten()[place_M + 1]
    if config.objective == "original":
        is_padding_BT = torch.zeros_like(is_padding_BT)  # its mistake: padding is read like any token
    return TextBatch(token_BT, is_padding_BT, place_M, target_M)
