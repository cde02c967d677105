"""SASRec and eSASRec (SASRec with LiGR layers) from RecTools."""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from benchmarks.peers.files import Budget, Events, Recommendations
from benchmarks.peers.models.peer import Peer, Settings

_MAX_EPOCHS = 200
_PATIENCE = 5
#: Full softmax, the library's default, up to so many items; above, sampled softmax, as in eSASRec. On Amazon Beauty's
#: 12,101 items the choice is the largest of all differences for our own decoder.
_FULL_SOFTMAX_ITEMS = 15_000
#: Events of a sequence at most: of a small catalogue as many as in the papers on MovieLens, else the library's 100.
_LONGEST = 200
_LONGEST_OF_LARGE = 100
#: Negatives of the sampled softmax. The library draws them for each position, which on a processor costs several times
#: the rest of a step; here all positions of a batch share them, four times as many as the 256 of eSASRec.
_SHARED_NEGATIVES = 1_024
#: Items that are learned and recommended, the most sold ones; the papers leave out rare items too. With all 68,509 of
#: Complete Journey, eight epochs left the rare ones at noise that outranked the popular ones.
_MOST_ITEMS = 15_000
#: Stretches of one history, so that each has a number of its own.
_MAX_STRETCHES = 1_000_000


class SasRec(Peer):
    """SASRec (Kang and McAuley 2018) as RecTools builds it.

    The library learns from the newest window of each user only. Here every stretch of a history is a sequence of its
    own, so that all purchases are learned from. The validation window chooses the epoch and is not learned from.
    Of a large catalogue vectors are as wide as the demo's and batches smaller than the library's 128, so that there are
    some epochs and a thousand steps in a quarter of an hour on a processor.
    """

    library = "RecTools"
    each_fold = False
    ligr = False

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Learn until the loss on the validation window rises, or time is up; keep the best epoch."""
        import torch
        from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
        from pytorch_lightning.callbacks import EarlyStopping
        from rectools.models import SASRecModel
        from rectools.models.nn.item_net import IdEmbeddingsItemNet
        from rectools.models.nn.transformers.ligr import LiGRLayers

        keep_freed_memory()

        class KeepBest(Callback):
            loss = float("inf")
            epoch = 0
            weights: dict[str, torch.Tensor] | None = None

            def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
                loss = float(trainer.callback_metrics["val_loss"])
                if loss < self.loss:
                    state = cast("torch.nn.Module", pl_module.torch_model).state_dict()
                    self.weights = {name: value.detach().clone() for name, value in state.items()}
                    self.loss, self.epoch = loss, trainer.current_epoch + 1

        seed_everything(self.split.meta["seed"], verbose=False)
        sold = np.bincount(events.item[~events.validation], minlength=self.n_items)
        most = np.argsort(-sold, kind="stable")[:_MOST_ITEMS]
        events = events.where(np.isin(events.item, most))
        full = self.n_items <= _FULL_SOFTMAX_ITEMS
        length = _length(events, _LONGEST if full else _LONGEST_OF_LARGE)
        stretches = _stretches(events, length)
        chosen: Settings = {
            "n_blocks": 2,
            "n_heads": 4,
            "n_factors": 128 if full else 64,
            "dropout_rate": 0.2,
            "session_max_len": length,
            "loss": "softmax" if full else "sampled_softmax",
            "n_negatives": 1 if full else _SHARED_NEGATIVES,
            "lr": 1e-3,
            "batch_size": 128 if full else 32,
        }

        def trainer() -> Trainer:
            return Trainer(
                max_epochs=_MAX_EPOCHS,
                max_time={"seconds": int(60 * budget.left())},
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                callbacks=[KeepBest(), EarlyStopping("val_loss", mode="min", patience=_PATIENCE)],
            )

        self.model = SASRecModel(
            **chosen,
            **({"transformer_layers_type": LiGRLayers} if self.ligr else {}),
            **({} if full else _shared_negatives()),
            item_net_block_types=(IdEmbeddingsItemNet,),
            get_val_mask_func=_validation_mask_of(stretches),
            get_trainer_func=trainer,
        )
        self.model.fit(_dataset(stretches))
        fitted = self.model.fit_trainer  # a copy of what trainer() returned, callbacks included
        kept = next(callback for callback in fitted.callbacks if isinstance(callback, KeepBest))
        if kept.weights is not None:
            self.model.torch_model.load_state_dict(kept.weights)
        self.fitted = chosen | {
            "n_items": len(most),
            "share_of_events": round(float(sold[most].sum() / max(1, sold.sum())), 3),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "layers": "LiGRLayers" if self.ligr else "SASRecTransformerLayers",
            "epochs": round(fitted.global_step / max(1, fitted.num_training_batches), 2),
            "best_epoch": kept.epoch,
            "best_val_loss": kept.loss,
            "stopped_early": fitted.should_stop and bool(budget.left()),
        }

    def rank(self, date: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
        """Return the library's recommendations from the newest events of each history."""
        known = _dataset(history.where(np.isin(history.user, users)))
        lists = [self._recommend(known, users, without_seen=without_seen) for without_seen in (False, True)]
        return lists[0], lists[1]

    def _recommend(
        self,
        known: Any,  # noqa: ANN401 - theirs
        users: np.ndarray,
        *,
        without_seen: bool,
    ) -> Recommendations:
        table = self.model.recommend(
            users, known, self.split.k, filter_viewed=without_seen, on_unsupported_targets="ignore"
        )
        item = np.full((len(users), self.split.k), -1, dtype=np.int64)
        score = np.full((len(users), self.split.k), -np.inf, dtype=np.float32)
        row, rank = np.searchsorted(users, table["user_id"].to_numpy()), table["rank"].to_numpy() - 1
        item[row, rank], score[row, rank] = table["item_id"].to_numpy(), table["score"].to_numpy()
        return Recommendations(item, score)


class ESasRec(SasRec):
    """eSASRec: the same with LiGR layers (Borisyuk et al. 2025, in RecTools' "eSASRec", 2025)."""

    ligr = True


def _shared_negatives() -> dict[str, type]:
    """Return the two parts of RecTools' model that draw and score negatives, for negatives shared by a batch."""
    import torch
    from rectools.models.nn.transformers.negative_sampler import CatalogUniformSampler
    from rectools.models.nn.transformers.similarity import DistanceSimilarityModule

    class SharedSampler(CatalogUniformSampler):  # type: ignore[misc]
        def get_negatives(
            self,
            batch_dict: dict[str, torch.Tensor],
            lowest_id: int,
            highest_id: int,
            session_len_limit: int | None = None,
            **_: object,
        ) -> torch.Tensor:
            n_users, n_positions = batch_dict["x"].shape
            drawn = torch.randint(lowest_id, highest_id, (self.n_negatives,))
            return drawn.expand(n_users, session_len_limit or n_positions, -1)

    class SharedSimilarity(DistanceSimilarityModule):  # type: ignore[misc]
        def _get_pos_neg_logits(
            self, session_embs: torch.Tensor, item_embs: torch.Tensor, candidate_item_ids: torch.Tensor
        ) -> torch.Tensor:
            bought = (item_embs[candidate_item_ids[..., 0]] * session_embs).sum(-1, keepdim=True)
            return torch.cat([bought, session_embs @ item_embs[candidate_item_ids[0, 0, 1:]].T], dim=-1)

    return {"negative_sampler_type": SharedSampler, "similarity_module_type": SharedSimilarity}


def keep_freed_memory() -> None:
    """Let the process keep the memory of freed tensors, as the project's own training does."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _length(events: Events, longest: int) -> int:
    """Return the events of a sequence: ``longest``, or fewer where 95 % of the histories are shorter."""
    return int(np.clip(np.quantile(np.unique(events.user, return_counts=True)[1], 0.95), 20, longest))


def _stretches(events: Events, length: int) -> Events:
    """Return the events with a user of its own for each stretch of ``length`` and a next event, cut from the end.

    What lies in the validation window continues the newest stretch.
    """
    counts = np.bincount(events.user[~events.validation], minlength=int(events.user.max()) + 1)
    first = np.searchsorted(events.user, events.user)
    from_end = np.maximum(counts[events.user] - 1 - (np.arange(len(first)) - first), 0)
    return replace(events, user=events.user * _MAX_STRETCHES + from_end // (length + 1))


def _validation_mask_of(events: Events) -> Callable[..., np.ndarray]:
    """Return what RecTools calls to know which of its rows lie in the validation window."""
    user, first = np.unique(events.user[events.validation], return_index=True)
    begins = dict(zip(user.tolist(), events.timestamp[events.validation][first].tolist(), strict=True))

    def mask(interactions: Any) -> np.ndarray:  # noqa: ANN401 - a data frame
        begin = np.array([begins.get(user, np.iinfo(np.int64).max) for user in interactions["user_id"].tolist()])
        seconds: np.ndarray = interactions["datetime"].to_numpy().astype("datetime64[s]").astype(np.int64)
        return seconds >= begin

    return mask


def _dataset(events: Events) -> Any:  # noqa: ANN401 - a dataset of RecTools
    import pandas as pd
    from rectools.dataset import Dataset

    columns = {
        "user_id": events.user,
        "item_id": events.item,
        "weight": np.ones(len(events.user), dtype=np.float32),
        "datetime": events.timestamp.astype("datetime64[s]"),
    }
    return Dataset.construct(pd.DataFrame(columns))
