"""A published architecture as a system that can be asked for lists; it never recommends a special token."""

import numpy as np
import torch
from torch import Tensor

from recsys.modeling.recommend import Candidates, History, Lists
from recsys.modeling.seed_batches import N_SPECIAL, tokens
from recsys.modeling.seed_models import Transformer
from recsys.splits import event_positions


class SeedRecommender:
    """Rank the catalogue by what is likely to follow the newest events; the date asked plays no part."""

    name = "decoder"

    def __init__(self, model: Transformer, seq_max_len: int, *, chunk: int = 256) -> None:
        self.model, self.seq_max_len, self.chunk = model, seq_max_len, chunk

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Lists:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,)."""
        items = np.zeros((len(user_index), k), dtype=np.int32)
        scores = np.zeros((len(user_index), k), dtype=np.float32)
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for begin in range(0, len(user_index), self.chunk):
                users = user_index[begin : begin + self.chunk]
                logits_QV = self.logits(history, users)
                logits_QV[:, torch.from_numpy(~candidates.allowed).to(logits_QV.device)] = -torch.inf
                if candidates.exclude_seen:
                    row, position = event_positions(history.data.offsets[users], history.end[users])
                    seen = torch.from_numpy(history.data.item[position].astype(np.int64))
                    logits_QV[torch.from_numpy(row), seen] = -torch.inf
                top = logits_QV.topk(k, dim=-1)
                items[begin : begin + self.chunk] = top.indices.cpu().numpy()
                scores[begin : begin + self.chunk] = top.values.float().cpu().numpy()
        self.model.train(was_training)
        return Lists(np.asarray(user_index, dtype=np.int32), items, scores)

    def logits(self, history: History, users: np.ndarray) -> Tensor:
        """Return logits (Q, V) after the newest events of ``users``: padding and items, no other special token."""
        data, end = history.data, history.end[users]
        begin = np.maximum(data.offsets[users], end - self.seq_max_len)
        token_BT = torch.from_numpy(tokens(data, begin, end)).to(self.model.fc_out.weight.device)
        newest = torch.from_numpy(end - begin).to(token_BT.device)
        state_QD = self.model.states(token_BT)[torch.arange(len(users), device=token_BT.device), newest]
        logits: Tensor = self.model.fc_out(state_QD)[:, : data.n_items + N_SPECIAL - 2]
        return logits
