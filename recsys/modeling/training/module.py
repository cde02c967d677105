"""The LightningModule: one step of training, one pass of validation, the optimiser and its schedule."""

import copy
import math
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from recsys.config import Config
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.segments import bought_before
from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.inputs import Queries
from recsys.modeling.decoder.losses import WindowLoss, full_softmax_loss, ranking_loss, sampled_softmax_loss
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.training.batches import Batch, TrainingBatches
from recsys.modeling.training.calibration import COMPONENTS, fit_temperatures, fold_in
from recsys.modeling.training.negatives import MixedSampler, QueryPositives
from recsys.signals.sales import ItemSales


class PurchaseModule(pl.LightningModule):
    """Fit a :class:`PurchaseModel` to next purchases and to whole windows asked at dates."""

    validation_metric: str | None = "val_map@12"  # None where nothing is held out
    validation_mode: Literal["min", "max"] = "max"
    log_every_n_steps = 10

    def __init__(
        self, config: Config, model: PurchaseModel, batches: TrainingBatches, sales: ItemSales, validation: Fold | None
    ) -> None:
        super().__init__()
        self.config, self.model = config, model
        # Of the last validation, and of the one before any training; training does not read them.
        self.register_buffer("parts", torch.zeros(len(COMPONENTS)))
        self.parts: Tensor
        self.register_buffer("untrained_parts", torch.zeros(len(COMPONENTS)))
        self.untrained_parts: Tensor
        self.batches, self.sales, self.validation = batches, sales, validation
        n_asked = 0
        if validation is None:
            self.validation_metric = None
        else:
            n_asked = len(validation.user_index)
        # Average precision of each validation customer before any training; NaN: not known, or the customer has no say.
        self.register_buffer("untrained_Q", torch.full((n_asked,), torch.nan))
        self.untrained_Q: Tensor
        self.register_buffer("is_gain_sure", torch.tensor(True))
        self.is_gain_sure: Tensor
        data, end = batches.data, batches.split.train_end
        counts = _count_items(data.item, data.offsets, end, data.n_items + 1)
        counts_V = torch.from_numpy(counts)
        # What was not sold is no negative of the next item. Windows draw it too, so that the sales head alone learns
        # from it how rarely an item sells for the first time.
        training = config.training
        self.loss = training.loss_over(data.n_items)
        self.sampler, self.sold_sampler = MixedSampler(counts_V), MixedSampler(counts_V, only_sold=True)
        model.begin(counts_V)
        # What a run may meet halfway.
        self.untrained = {
            name: weight.detach().clone()
            for name, weight in model.named_parameters()
            if config.model.begins_as_rules and validation is not None and weight.requires_grad
        }

    def train_dataloader(self) -> torch.utils.data.DataLoader[Batch]:
        """Return the training batches, already assembled."""
        self.batches.rank, self.batches.world_size = self.trainer.global_rank, self.trainer.world_size
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    def on_train_epoch_start(self) -> None:
        """Fix the order of the epoch by seed and epoch."""
        self.batches.epoch = self.current_epoch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Fix negatives and dropout by seed, step and process, so that a resumed run equals an uninterrupted one."""
        torch.manual_seed(hash((self.config.seed, self.global_step, self.global_rank)))

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss: what comes next at every position, and what the window holds at every query."""
        self.model.tie_cold_item_bias()
        states_BTD = self.model.states(batch.sequences)
        next_loss = self.next_item_loss(states_BTD, batch)
        loss = self.config.training.next_weight * next_loss
        if len(batch.queries.row_Q):
            asked, ranking = self.asked_losses(states_BTD, batch)
            training = self.config.training
            apart = training.apart_weight * (asked.repeats + asked.discoveries)
            loss = loss + (asked.joint + apart + training.ranking_weight * ranking)
            n_queries = len(batch.queries.row_Q)
            self.log("train_window_loss", asked.joint, on_step=True, on_epoch=True, batch_size=n_queries)
            self.log("train_repeats_loss", asked.repeats, on_epoch=True, on_step=False, batch_size=n_queries)
            self.log("train_discoveries_loss", asked.discoveries, on_epoch=True, on_step=False, batch_size=n_queries)
            self.log("train_ranking_loss", ranking, on_epoch=True, on_step=False, batch_size=n_queries)
        n_targets = int((batch.target_BT > 0).sum())
        self.log("train_next_loss", next_loss, on_step=True, on_epoch=True, batch_size=n_targets)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=n_targets)
        return loss

    def next_item_loss(self, states_BTD: Tensor, batch: Batch) -> Tensor:
        """Return the loss of the next item over the positions that have one."""
        has_target_BT = batch.target_BT > 0
        query_MD = self.model.decoder.ask(states_BTD[has_target_BT], batch.days_until_query_BT[has_target_BT])
        target_M = batch.target_BT[has_target_BT]
        bias_V: Tensor = self.model.item_bias
        if self.loss == "full":
            sold_V = self.model.is_sold()
            bias_V = bias_V if sold_V is None else bias_V.masked_fill(~sold_V, -torch.inf)
            # Row 0 is padding.
            return full_softmax_loss(query_MD, self.model.item_vectors_VD[1:], target_M - 1, bias_V[1:])
        sampler = self.sold_sampler
        negative_N = sampler.sample(self.config.training.n_negatives).to(target_M.device)
        target = self.model.items(target_M), target_M, bias_V[target_M]
        negatives = self.model.items(negative_N), negative_N, bias_V[negative_N]
        log_q = (sampler.log_q(item.cpu()).to(target_M.device) for item in (target_M, negative_N))
        return sampled_softmax_loss(query_MD, *target, *negatives, *log_q)

    def asked_losses(self, states_BTD: Tensor, batch: Batch) -> tuple[WindowLoss, Tensor]:
        """Return the losses of everything bought in the windows asked about, and that of the order of the own past."""
        queries, model = batch.queries, self.model
        query_QD = model.query(states_BTD, queries)
        own = QueryPositives.of(queries, batch.target_query_n, batch.target_item_n, model.n_items + 1)
        of_own = self._own_and_all_others if self.loss == "full" else self._own_and_drawn_others
        own_logit_P, other_Q = of_own(query_QD, queries, own)
        window = WindowLoss.of(own_logit_P, own.query_P, own.n_past, own.target_n, other_Q)
        if not self.config.training.ranking_weight:
            return window, other_Q.new_zeros(())
        n_targets_Q = torch.bincount(own.query_P[own.target_n], minlength=len(other_Q))
        past, again_n = slice(own.n_past), own.target_n[own.target_n < own.n_past]
        return window, ranking_loss(own_logit_P[past], own.query_P[past], again_n, n_targets_Q)

    def _own_and_all_others(self, query_QD: Tensor, queries: Queries, own: QueryPositives) -> tuple[Tensor, Tensor]:
        """Return the logits of own items (P,), and the log of the sum of exp(logit) of all other items (Q,)."""
        logits_QV = self.model.catalogue_logits(query_QD, queries, self.sales)
        others_QV = logits_QV.index_put((own.query_P, own.item_P), logits_QV.new_tensor(-torch.inf))
        return logits_QV[own.query_P, own.item_P], others_QV.logsumexp(-1)

    def _own_and_drawn_others(self, query_QD: Tensor, queries: Queries, own: QueryPositives) -> tuple[Tensor, Tensor]:
        """Return the same, the sum over other items estimated by importance sampling (Bengio & Senécal, 2008)."""
        model, new = self.model, slice(own.n_past, None)
        past_P = model.past_logits(query_QD, queries, self.sales)
        given = model.given(queries)
        new_P = model.pair_logits(query_QD, queries, own.query_P[new], own.item_P[new], self.sales, given)
        n_negatives = self.config.training.n_window_negatives
        negative_N = self.sampler.sample(n_negatives).to(query_QD.device)
        expected_N = self.sampler.log_q(negative_N.cpu()).to(query_QD.device) + math.log(n_negatives)
        negative_QN = model.shared_logits(query_QD, queries, negative_N, self.sales, given) - expected_N
        negative_QN = negative_QN.masked_fill(own.contains(negative_N, len(query_QD)), -torch.inf)
        return torch.cat([past_P, new_P]), negative_QN.logsumexp(-1)

    def on_train_epoch_end(self) -> None:
        """Log MAP@12 of the validation customers, if there are any, and whether they are sure of what was gained."""
        self.model.tie_cold_item_bias()
        if self.validation_metric is not None and self.validation is not None:
            precision_Q = self.average_precisions_of(self.validation)
            self.is_gain_sure.fill_(self.gains_more_than_chance(precision_Q))
            self.log(self.validation_metric, float(np.nanmean(precision_Q)), prog_bar=True, sync_dist=True)

    def validate_untrained(self, fold: Fold) -> float:
        """Return MAP@12 as :meth:`validate` does, and hold later epochs against it, customer by customer."""
        precision_Q = self.average_precisions_of(fold)
        self.untrained_Q.copy_(torch.from_numpy(precision_Q))
        self.untrained_parts.copy_(self.parts)
        return float(np.nanmean(precision_Q))

    def validate(self, fold: Fold) -> float:
        """Return MAP@12 out of all that may be listed: the mean of :meth:`average_precisions_of`."""
        return float(np.nanmean(self.average_precisions_of(fold)))

    def average_precisions_of(self, fold: Fold) -> np.ndarray:
        """Return AP@12 of each customer of ``fold`` (Q,), the parts of the logits weighed by it where that helps.

        A few numbers are fitted to the very purchases that are ranked: where these are few, the mean is too high.
        Customers of whom the model knows nothing have no say (NaN): others' lists are not for them. What is most likely
        need not rank best, so the parts are weighed only where that ranks better. The model in training stays as it
        was: a copy is weighed, as the run's weights will be.
        """
        model = self.model
        has_say_Q, asked, history = self._asked(model, fold)
        excludes = self.config.predict.exclude_seen
        fitted = fit_temperatures(model, self.sales, history, asked, self.config.seed, exclude_seen=excludes)
        unweighed_A, weighed_A = (self._precisions(one, history, asked) for one in (model, self._weighed(fitted)))
        helps = weighed_A.mean() > unweighed_A.mean()
        self.parts.copy_(fitted if helps else torch.zeros_like(fitted))
        precision_Q = np.full(len(has_say_Q), np.nan)
        precision_Q[has_say_Q] = weighed_A if helps else unweighed_A
        return precision_Q

    def _asked(self, model: PurchaseModel, fold: Fold) -> tuple[np.ndarray, Fold, History]:
        """Return who of ``fold`` has a say (Q,) bool, all if none has; the fold of these; and what is known of them.

        Where lists leave out what was bought before, what is bought again is no target.
        """
        data, asked = self.batches.data, fold
        if self.config.predict.exclude_seen and not (is_repeat_n := bought_before(data, fold)).all():
            asked = fold.of_targets(~is_repeat_n)
        history = History(data, fold.history_end, fold.start_day)
        known_A = DecoderRecommender(model, self.sales).knows(history, asked.user_index)
        if known_A.any():
            asked = asked.of_users(known_A)
        return np.isin(fold.user_index, asked.user_index), asked, history

    def _precisions(self, model: PurchaseModel, history: History, fold: Fold) -> np.ndarray:
        n_items = self.batches.data.n_items
        # With the items of the history in them or without, as lists will be asked for.
        candidates = Candidates(all_items(n_items), self.config.predict.exclude_seen)
        recommender = DecoderRecommender(model, self.sales)
        lists = recommender.recommend(history, fold.user_index, min(12, n_items), candidates)
        if np.isnan(lists.score).any():
            # A training that diverged: in the order of nothing, a small catalogue may even look well ranked.
            return np.zeros(len(fold.user_index))
        listed = np.where(np.isneginf(lists.score), 0, lists.item)  # too few were left: the rest is no recommendation
        return average_precisions(listed, fold, lists.user_index, 12)

    def gains_more_than_chance(self, precision_Q: np.ndarray) -> bool:
        """Return whether a model that began as the rules gained more than one standard error on them, paired.

        One that began as nothing need not: whatever was learned is more.
        """
        gain_Q = precision_Q - self.untrained_Q.cpu().numpy()
        gain_A = gain_Q[np.isfinite(gain_Q)]
        if not self.config.model.begins_as_rules or not len(gain_A):
            return True
        # What a single customer gains is one standard error by definition, and decides nothing, however it is rounded.
        error = gain_A.std(ddof=1) / math.sqrt(len(gain_A)) if len(gain_A) > 1 else math.inf
        return bool(gain_A.mean() > 1.001 * error)

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a run keeps of this module's ``state``: the weights, their parts weighed.

        Where it is not sure that anything was gained, the mean of these and of the untrained ones (WiSE-FT: Wortsman et
        al., 2022): half of what was learned, and not all of it forgotten. Their parts are weighed by the mean as well,
        and not before, since one weight undoes what another was multiplied by.
        """
        own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        parts = state["parts"]
        if not is_sure(state):
            parts = torch.lerp(state["untrained_parts"], parts, 0.5)
            own |= {
                name: torch.lerp(weight.to(own[name].device), own[name], 0.5) for name, weight in self.untrained.items()
            }
        return self._weighed(parts, own).state_dict()

    def value_of(self, weights: dict[str, Tensor]) -> float:
        """Return MAP@12 of a run's ``weights`` on the validation customers; 0 without any."""
        if self.validation is None:
            return 0.0
        model = copy.deepcopy(self.model)
        model.load_state_dict(weights)
        fold, history = self._asked(model, self.validation)[1:]
        return float(self._precisions(model, history, fold).mean())

    def _weighed(self, parts: Tensor, state: dict[str, Tensor] | None = None) -> PurchaseModel:
        model = copy.deepcopy(self.model)
        if state is not None:
            model.load_state_dict(state)
        fold_in(model, parts)
        return model

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW (no decay on biases, norms and what makes items' vectors) with linear warm-up, then cosine."""
        training = self.config.training

        def is_decayed(name: str, parameter: Tensor) -> bool:
            return parameter.ndim > 1 and "items." not in name and not name.rpartition(".")[2].startswith("bias")

        decayed = [p for name, p in self.model.named_parameters() if is_decayed(name, p)]
        others = [p for name, p in self.model.named_parameters() if not is_decayed(name, p)]
        groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=training.lr, betas=(0.9, 0.98), fused=True)
        total = max(len(self.batches) * training.epochs, 1)
        warmup = max(round(training.warmup_fraction * total), 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def is_sure(state: dict[str, Tensor]) -> bool:
    """Return whether the weights of a module's ``state`` are kept as learned: False where they meet the untrained."""
    return bool(state["is_gain_sure"])


def _lr_factor(step: int, warmup: int, total: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.475 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1)))


def _count_items(item: np.ndarray, offsets: np.ndarray, end: np.ndarray, n_rows: int) -> np.ndarray:
    """Return how often each item occurs (n_rows,) among events ``offsets[u]:end[u]``."""
    change = np.zeros(len(item) + 1, dtype=np.int64)
    np.add.at(change, offsets[:-1], 1)
    np.add.at(change, end, -1)
    return np.bincount(item[np.cumsum(change[:-1]) > 0], minlength=n_rows)
