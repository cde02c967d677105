"""An original decoder as a system that can be asked for lists; it never recommends a special token."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.errors import ConfigError, RunError
from recsys.modeling.decoder.layers import at_rest
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.original.batches import N_SPECIAL, end_token, tokens
from recsys.modeling.original.decoder import Transformer
from recsys.modeling.recommenders.base import Candidates, Recommendations
from recsys.runs import WEIGHTS_FILE, Run


class OriginalRecommender:
    """Rank the catalogue by what is likely to follow the newest events; the date asked plays no part."""

    name = "decoder"

    def __init__(self, model: Transformer, seq_max_len: int, *, chunk: int = 256) -> None:
        self.model, self.seq_max_len, self.chunk = model, seq_max_len, chunk
        self.longest = seq_max_len, "original.seq_max_len"

    def reader(self, histories: Histories, *, n_context: int, n_new: int) -> "OriginalReader":
        return OriginalReader(self.model, histories, n_context, n_new)

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        model, n_rows = self.model, histories.log.n_items + 1
        blocked_V = torch.from_numpy(~candidates.allowed).to(model.fc_out.weight.device)
        items = np.zeros((len(histories), k), dtype=np.int32)
        scores = np.zeros((len(histories), k), dtype=np.float32)
        with at_rest(model):
            for begin in range(0, len(histories), self.chunk):
                rows = slice(begin, begin + self.chunk)
                some = histories.of(rows)
                token_BT, newest_Q = _newest_tokens(model, some, self.seq_max_len)
                state_QD = model(token_BT)[torch.arange(len(some), device=token_BT.device), newest_Q]
                logits_QV = model.fc_out(state_QD)[:, :n_rows]
                logits_QV[:, blocked_V] = -torch.inf
                if candidates.exclude_seen:
                    row, position = some.events()
                    logits_QV[row, some.log.item[position].astype(np.int64)] = -torch.inf
                top = logits_QV.topk(k, dim=-1)
                items[rows], scores[rows] = top.indices.cpu().numpy(), top.values.float().cpu().numpy()
        return Recommendations(items, scores)


class OriginalReader:
    """An original decoder that has read some histories: it knows their end, and no dates."""

    def __init__(self, model: Transformer, histories: Histories, n_context: int, n_new: int) -> None:
        self.model, self.n_items = model, histories.log.n_items
        token_BT, self.newest_R = _newest_tokens(model, histories, n_context)
        self.cache = model.new_cache(len(histories), token_BT.shape[1] + n_new)
        position_BT = torch.arange(token_BT.shape[1], device=token_BT.device).expand_as(token_BT)
        state_BTD = model.extend(token_BT, position_BT, self.cache)
        self.logits_RV = self._logits(state_BTD[torch.arange(len(histories)), self.newest_R])

    def extend(self, item_R: Tensor) -> None:
        self.newest_R = self.newest_R + 1
        self.logits_RV = self._logits(self.model.extend(item_R[:, None], self.newest_R[:, None], self.cache)[:, 0])

    def _logits(self, state_RD: Tensor) -> Tensor:
        """Return the logits (R, V) of the end of the history, in the place of padding, and of the items."""
        logits_RV: Tensor = self.model.fc_out(state_RD)
        return torch.cat([logits_RV[:, end_token(self.n_items), None], logits_RV[:, 1 : self.n_items + 1]], dim=1)


def _newest_tokens(model: Transformer, histories: Histories, n_newest: int) -> tuple[Tensor, Tensor]:
    """Return the tokens (Q, T) of the ``n_newest`` latest events, and the position (Q,) of the last of each."""
    begin = np.maximum(histories.begin, histories.end - n_newest)
    token_BT = torch.from_numpy(tokens(histories.log, begin, histories.end)).to(model.fc_out.weight.device)
    return token_BT, torch.from_numpy(histories.end - begin).to(token_BT.device)


def load_transformer(run: Run, data: Purchases) -> Transformer:
    """Return the original decoder that a run fitted, with its weights and, where it reads any, its text vectors."""
    path, vectors = run.folder / WEIGHTS_FILE, None
    if run.config.original.family == "bert":
        vectors = torch.zeros(tensor_shape(path, "vectors", "text vectors"))
    model = build_transformer(run.config, data, vectors)
    load_weights(model, path)
    return model


def tensor_shape(path: Path, name: str, title: str) -> list[int]:
    """Return the shape of the tensor ``name`` in ``path``; a RunError where there is none, of what ``title`` says."""
    try:
        with safe_open(path, framework="np") as file:
            return list(file.get_slice(name).get_shape())
    except SafetensorError as error:
        raise RunError(f"{path} holds no {title} ({error}); train again with --force") from error


def build_transformer(config: Config, data: Purchases, vectors: Tensor | None = None) -> Transformer:
    """Return the original decoder for ``data``, on frozen ``vectors`` (V, D) where the family is bert."""
    chosen, n_tokens = config.original, data.n_items + N_SPECIAL
    if chosen.num_embeds not in (None, n_tokens):
        raise ConfigError(
            f"original.num_embeds is {chosen.num_embeds}, but {data.origin} holds {data.n_items} items and there are "
            f"{N_SPECIAL} special tokens; set num_embeds: {n_tokens}, or leave it out"
        )
    width = (chosen.hidden_size or 256) if vectors is None else vectors.shape[1]
    if chosen.hidden_size not in (None, width):
        raise ConfigError(
            f"original.hidden_size is {chosen.hidden_size}, but the text vectors of {data.origin} are {width} wide; "
            f"set hidden_size: {width}, or leave it out"
        )
    if width % chosen.num_heads:
        raise ConfigError(
            f"original.num_heads is {chosen.num_heads}, which does not divide the width {width}; "
            f"set num_heads: {np.gcd(width, 8)}, for example"
        )
    return Transformer(n_tokens, width, num_heads=chosen.num_heads, num_layers=chosen.num_layers, vectors=vectors)
