"""The LightningModule: one step of training, one pass of validation, the optimiser and its schedule."""

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from recsys.config import Config
from recsys.data.purchases import event_positions
from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.losses import WindowLoss, full_softmax_loss, ranking_loss, sampled_softmax_loss
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.training.batches import Batch, TrainingBatches
from recsys.modeling.training.calibration import fold_in, temperature_names
from recsys.modeling.training.negatives import MixedSampler, QueryPositives
from recsys.modeling.training.selection import TransformerChoice, beats, choose_transformer
from recsys.modeling.training.validation import Validation

#: Negatives of the window loss for each of the next-item loss: they stand for all items that a whole window might have
#: held, so few of them estimate that sum badly.
_WINDOW_NEGATIVES: Final = 8


def of_all(means: dict[str, tuple[Tensor, int | Tensor]]) -> dict[str, tuple[Tensor, int]]:
    """Return losses, each a mean over n, so that the mean over processes is that over all they have; and how many.

    A process may have none of something, and then a loss of 0. The processes wait for each other once.
    """
    if not distributed.is_initialized():
        return {name: (loss, int(n)) for name, (loss, n) in means.items()}
    device = next(loss.device for loss, _ in means.values())
    own = torch.tensor([float(n) for _, n in means.values()], dtype=torch.float64, device=device)
    total = own.clone()
    distributed.all_reduce(total)
    shares = (own * distributed.get_world_size() / total.clamp(min=1)).tolist()
    found = zip(means.items(), shares, total.tolist(), strict=True)
    # A mean over nothing is no number.
    return {name: (loss * share if share else loss.nan_to_num() * 0, int(n)) for (name, (loss, _)), share, n in found}


class EpochModule(pl.LightningModule):
    """Learns from ``batches``, in an order of seed and epoch: what every family of runs is fitted as."""

    validation_metric: str | None  # the logged value by which epochs are chosen; None where nothing is held out
    validation_mode: Literal["min", "max"]
    log_every_n_steps = 10

    def __init__(self, config: Config, model: nn.Module, batches: Any) -> None:  # noqa: ANN401 - of any family
        super().__init__()
        self.config, self.model, self.batches = config, model, batches

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a run keeps of this module's ``state``."""
        return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)  # which are assembled already

    def on_train_epoch_start(self) -> None:
        self.batches.epoch = self.current_epoch

    def on_train_batch_start(self, *_: object) -> None:
        """Fix dropout by seed and step, so that a resumed run equals an uninterrupted one."""
        torch.manual_seed(hash((self.config.seed, self.global_step)))

    def scheduled(
        self, optimizer: torch.optim.Optimizer, then: Callable[[int, int], float] = lambda step, steps: 1.0
    ) -> OptimizerLRScheduler:
        """Return ``optimizer`` with a rate that rises linearly, ``then`` goes by the step and number of those left."""
        training = self.config.training
        total = max(len(self.batches) * training.epochs, 1)
        warmup = max(round(training.warmup_fraction * total), 1)

        def factor(step: int) -> float:
            return (step + 1) / warmup if step < warmup else then(step - warmup, total - warmup)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class PurchaseModule(EpochModule):
    """Fit a :class:`PurchaseModel` to next purchases and to whole windows asked at days."""

    model: PurchaseModel
    validation_metric: str | None = None
    validation_mode = "max"

    def __init__(
        self, config: Config, model: PurchaseModel, batches: TrainingBatches, validation_fold: Fold | None
    ) -> None:
        super().__init__(config, model, batches)
        self.validation = self.discoveries = None
        if validation_fold is not None:
            known = batches.snapshots, batches.user_codes, validation_fold
            self.validation = Validation(config, *known)
            of_new = config.model_copy(update={"predict": config.predict.model_copy(update={"exclude_seen": True})})
            self.discoveries = None if config == of_new else Validation(of_new, *known)
            self.validation_metric = f"val_map@{self.validation.k}"
        # Temperatures of the last validation, which training does not read, and MAP before any training.
        self.temperatures = nn.Buffer(torch.zeros(len(temperature_names(model))))
        self.untrained_value = nn.Buffer(torch.tensor(torch.nan))
        log, end = batches.log, batches.split.train_end
        learned = log.item[event_positions(log.offsets[:-1], end)[1]]
        counts_V = torch.from_numpy(np.bincount(learned, minlength=log.n_items + 1))
        # What was not sold is no negative of the next item. Windows draw it too, so that the sales component alone
        # learns from it how rarely an item sells for the first time.
        self.loss = config.training.loss_over(log.n_items)
        self.n_window_negatives = _WINDOW_NEGATIVES * config.training.n_negatives
        self.sampler, self.sold_sampler = MixedSampler(counts_V), MixedSampler(counts_V, only_sold=True)
        self.draws = torch.Generator()
        model.init_from_training(counts_V)

    def on_train_batch_start(self, *_: object) -> None:
        """Fix negatives apart, so that all processes of a training draw the same ones."""
        super().on_train_batch_start()
        self.draws.manual_seed(hash((self.config.seed, self.global_step)))

    def training_step(self, batch: Batch) -> Tensor | None:
        """Return the loss: what comes next at every position, and what the window holds at every query."""
        self.model.tie_cold_item_bias()
        training, n_queries, n_targets = self.config.training, len(batch.queries), int((batch.target_BT > 0).sum())
        losses, is_shared = [], distributed.is_initialized()
        means: dict[str, tuple[Tensor, int | Tensor]] = {}
        logged: Any = {"on_epoch": True, "sync_dist": is_shared}
        if self.model.decoder is not None:
            means["next"] = self.next_item_loss(batch), n_targets
        if n_queries or is_shared:  # the others wait for whoever has no query
            none = self.model.item_bias.sum() * 0  # has a gradient, which the other processes wait for
            window, ranking = self.window_losses(batch) if n_queries else (WindowLoss(*[none] * 5), none)
            means |= {"window": (window.joint, n_queries), "repeats": (window.repeats, window.n_repeats)}
            means |= {"discoveries": (window.discoveries, window.n_discoveries), "ranking": (ranking, window.n_repeats)}
        found = of_all(means)
        if "next" in found:
            next_loss, n_targets = found["next"]
            losses.append(next_loss)
            self.log("train_next_loss", next_loss, on_step=True, batch_size=n_targets, **logged)
        if "window" in found:
            joint, n_queries = found["window"]
            parts = {name: found[name][0] for name in ("repeats", "discoveries", "ranking")}
            apart = training.apart_weight * (parts["repeats"] + parts["discoveries"])
            losses.append(joint + apart + training.ranking_weight * parts["ranking"])
            n_queries = max(n_queries, 1)
            self.log("train_window_loss", joint, on_step=True, batch_size=n_queries, **logged)
            parts = {f"train_{name}_loss": part for name, part in parts.items()}
            self.log_dict(parts, on_step=False, batch_size=n_queries, **logged)
        # Without a transformer a batch without a query teaches nothing, and makes no step of its own.
        loss = torch.stack(losses).sum() if losses else self.model.item_bias.sum() * 0
        self.log("train_loss", loss, on_step=True, prog_bar=True, batch_size=n_targets, **logged)
        return loss

    def next_item_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the next item over the positions that have one."""
        item_tower, decoder = self.model.transformer()
        has_target_BT = batch.target_BT > 0
        states_BTD = self.model.states(batch.sequences)
        query_MD = decoder.query_at(states_BTD[has_target_BT], batch.days_until_next_BT[has_target_BT])
        target_M = batch.target_BT[has_target_BT]
        bias_V: Tensor = self.model.item_bias
        if self.loss == "full":
            sold_V = self.model.is_sold()
            bias_V = bias_V if sold_V is None else bias_V.masked_fill(~sold_V, -torch.inf)
            # Row 0 is padding.
            return full_softmax_loss(query_MD, self.model.item_vectors()[1:], target_M - 1, bias_V[1:])
        sampler = self.sold_sampler
        negative_N = sampler.sample(self.config.training.n_negatives, self.draws).to(target_M.device)
        target = item_tower(target_M), target_M, bias_V[target_M]
        negatives = item_tower(negative_N), negative_N, bias_V[negative_N]
        log_q = (sampler.log_q(item.cpu()).to(target_M.device) for item in (target_M, negative_N))
        return sampled_softmax_loss(query_MD, *target, *negatives, *log_q)

    def window_losses(self, batch: Batch) -> tuple[WindowLoss, Tensor]:
        """Return the losses of everything bought in the windows asked about, and that of the order of the own past.

        By all components but the transformer, which would learn the few windows by heart (experiment 73).
        """
        queries, model = batch.queries, self.model
        own = QueryPositives.from_targets(queries, batch.target_query_n, batch.target_item_n, model.n_items + 1)
        of_own = self._own_and_all_others if self.loss == "full" else self._own_and_drawn_others
        own_logit_P, other_Q = of_own(queries, own)
        window = WindowLoss.from_logits(own_logit_P, own.query_P, own.n_past, own.target_n, other_Q)
        if not self.config.training.ranking_weight:
            return window, other_Q.new_zeros(())
        n_targets_Q = torch.bincount(own.query_P[own.target_n], minlength=len(other_Q))
        past, again_n = slice(own.n_past), own.target_n[own.target_n < own.n_past]
        return window, ranking_loss(own_logit_P[past], own.query_P[past], again_n, n_targets_Q)

    def _own_and_all_others(self, queries: QueryTensors, own: QueryPositives) -> tuple[Tensor, Tensor]:
        """Return the logits of own items (P,), and the log of the sum of exp(logit) of all other items (Q,)."""
        logits_QV = self.model.catalogue_logits(None, queries)
        others_QV = logits_QV.index_put((own.query_P, own.item_P), logits_QV.new_tensor(-torch.inf))
        return logits_QV[own.query_P, own.item_P], others_QV.logsumexp(-1)

    def _own_and_drawn_others(self, queries: QueryTensors, own: QueryPositives) -> tuple[Tensor, Tensor]:
        """Return the same, the sum over other items estimated by importance sampling (Bengio & Senécal, 2008)."""
        model, device = self.model, self.model.item_bias.device
        terms = model.terms(None, queries)
        if model.past_items is None:
            past_P = model.pair_logits(terms, queries.past_query_P, queries.past_item_P)
        else:
            past_P = model.past_items.logits(queries)
        new_P = model.pair_logits(terms, own.query_P[own.n_past :], own.item_P[own.n_past :])
        negative_N = self.sampler.sample(self.n_window_negatives, self.draws).to(device)
        expected_N = self.sampler.log_q(negative_N.cpu()).to(device) + math.log(self.n_window_negatives)
        negative_QN = model.shared_logits(terms, negative_N) - expected_N
        negative_QN = negative_QN.masked_fill(own.contains(negative_N, len(queries)), -torch.inf)
        return torch.cat([past_P, new_P]), negative_QN.logsumexp(-1)

    def on_train_epoch_end(self) -> None:
        """Log MAP of the validation users, if there are any."""
        self.model.tie_cold_item_bias()
        if self.validation_metric is not None and self.validation is not None:
            precision_Q, temperatures = self.validation.average_precisions(self.model)
            self.temperatures.copy_(temperatures)
            self.log(self.validation_metric, float(np.nanmean(precision_Q)), prog_bar=True, sync_dist=True)

    def validate_untrained(self) -> float | None:
        """Return MAP of the validation users before any training, which epochs must exceed; None without any."""
        if self.validation is None:
            return None
        model = fold_in(self.model, self._without_transformer())
        precision_Q, temperatures = self.validation.average_precisions(model, is_trained=False)
        self.temperatures.copy_(temperatures)
        self.untrained_value.fill_(float(np.nanmean(precision_Q)))
        return float(np.nanmean(precision_Q))

    @property
    def _may_leave_out(self) -> bool:
        """Whether something scores items beside the transformer."""
        return self.model.decoder is not None and bool(self.model.components)

    def _without_transformer(self) -> Tensor:
        """Return the temperatures that change nothing, but leave the transformer out where something else scores."""
        temperatures = torch.zeros_like(self.temperatures)
        if self._may_leave_out:
            temperatures[0] = -torch.inf
        return temperatures

    def untrained_state(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a state of the ``weights`` before any training."""
        return {f"model.{name}": value for name, value in weights.items()} | {
            "temperatures": self._without_transformer()
        }

    def beats(self, state: dict[str, Tensor], untrained: dict[str, Tensor]) -> bool:
        """Say whether validation users' lists are better by ``state`` than by ``untrained`` weights beyond chance."""
        trained, rules = (
            fold_in(self.model, one["temperatures"], super(PurchaseModule, self).weights(one))
            for one in (state, self.untrained_state(untrained))
        )
        return self.validation is None or beats(trained, rules, self.validation)

    def choose_transformer(self, state: dict[str, Tensor], *, is_trained: bool) -> TransformerChoice | None:
        """Return whether lists are better with the transformer; where not, ``state`` leaves it out of them.

        Not trained, or where nothing is held out to weigh it by, it never stays. None where there is no choice: nothing
        else scores items.
        """
        if not self._may_leave_out:
            return None
        without = self._without_transformer()
        if self.validation is None:
            state["temperatures"] = without
            return TransformerChoice(stays=False)
        fresh = fold_in(self.model, torch.zeros_like(without), super().weights(state))
        smaller = fold_in(fresh, without)
        choice, fitted = choose_transformer(fresh, smaller, self.validation, self.discoveries, is_trained=is_trained)
        state["temperatures"] = fitted if choice.stays else fitted + without
        return choice

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a run keeps of this module's ``state``: the weights, temperatures folded in."""
        return fold_in(self.model, state["temperatures"], super().weights(state)).state_dict()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW (no decay on biases, norms and what makes items' vectors) with linear warm-up, then cosine."""
        training = self.config.training
        decayed: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in self.model.named_parameters():
            is_bias = name.rpartition(".")[2].startswith("bias")
            is_decayed = parameter.ndim > 1 and not is_bias and not name.startswith("item_tower.")
            (decayed if is_decayed else others).append(parameter)
        groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=training.lr, betas=(0.9, 0.98), fused=True)

        def cosine(step: int, steps: int) -> float:
            return 0.05 + 0.475 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1)))

        return self.scheduled(optimizer, cosine)
