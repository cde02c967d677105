"""What every component of the logit is, and the small network that most of them score with.

Scores are float32 under autocast too: they are summed, and small differences of their sums decide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.scores import Scores
from recsys.signals.item_codes import ItemCodes

#: Rows that go through a network at a time: what its layers make of them fits into a core's cache.
_BLOCK = 8192


@dataclass(frozen=True)
class Sizes:
    """What a component is built from."""

    codes: ItemCodes  # of the V rows of the catalogue
    n_promoted: int = 0  # item features that tell of promotions; past items have as many


class Scale(nn.Module):
    """Inputs of mean 0 and deviation 1, as far as the rows that it was fitted to go, and never beyond these.

    What never varied there stays 0: a weight on it would be learned as a constant, and act as chance once it varies.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.mean_F = nn.Buffer(torch.zeros(n_features))
        self.deviation_F = nn.Buffer(torch.ones(n_features))
        self.low_F = nn.Buffer(torch.full((n_features,), -torch.inf))
        self.high_F = nn.Buffer(torch.full((n_features,), torch.inf))

    def fit(self, rows_PF: Tensor) -> None:
        """Take mean, deviation and range of ``rows_PF`` (P, F); of what never varies, only the mean."""
        if len(rows_PF) > 1:
            self.mean_F.copy_(rows_PF.mean(0))
            deviation_F = rows_PF.std(0)
            varies_F = deviation_F > 1e-6
            self.deviation_F.copy_(torch.where(varies_F, deviation_F, 1))
            self.low_F.copy_(torch.where(varies_F, rows_PF.amin(0), self.mean_F))
            self.high_F.copy_(torch.where(varies_F, rows_PF.amax(0), self.mean_F))

    def forward(self, rows_PF: Tensor) -> Tensor:
        return (rows_PF.clamp(self.low_F, self.high_F) - self.mean_F) / self.deviation_F


class RuleAndNetwork(nn.Module):
    """A score that begins as a rule of thumb, whatever the seed: w · features + network(scaled features, context)."""

    def __init__(
        self,
        names: tuple[str, ...],
        rule: dict[str, float],
        hidden: tuple[int, ...],
        context_width: int = 0,
        make_context: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.rule = nn.Linear(len(names), 1, bias=False)
        with torch.no_grad():
            self.rule.weight.copy_(torch.tensor([[rule.get(name, 0.0) for name in names]]))
        self.scale = Scale(len(names))
        self.context = make_context() if context_width else None
        widths = (len(names) + context_width, *hidden)
        layers: list[nn.Module] = []
        for before, after in zip(widths, hidden, strict=False):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.network = nn.Sequential(*layers)
        self.out = nn.Linear(hidden[-1], 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        features_NF: Tensor,
        context: tuple[Tensor, Tensor] | None = None,
        rule_share_N: Tensor | None = None,
    ) -> Tensor:
        """Return the scores (N,) float32; ``rule_share_N`` is how much the rule counts, 1 by default.

        The context is a table (M, C), and which row of it goes with each of the N, int64.
        """
        scores, n_features = [], features_NF.shape[1]
        first, rest = cast("nn.Linear", self.network[0]), self.network[1:]
        # Many rows share a context: what the first layer makes of it is made once.
        of_context_MH = None if context is None else functional.linear(context[0], first.weight[:, n_features:])
        for begin in range(0, max(len(features_NF), 1), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            rule_N1 = self.rule(features_NF[rows])
            read_NH = functional.linear(self.scale(features_NF[rows]), first.weight[:, :n_features], first.bias)
            if context is not None and of_context_MH is not None:
                read_NH = read_NH + of_context_MH[context[1][rows]]
            if rule_share_N is not None:
                rule_N1 = rule_N1 * rule_share_N[rows, None]
            scores.append((rule_N1 + self.out(rest(read_NH))).squeeze(-1).float())
        return torch.cat(scores)

    @torch.no_grad()
    def scale_(self, factor: float) -> None:
        for weight in (self.rule.weight, *self.out.parameters()):
            weight.mul_(factor)


class Component(nn.Module):
    """A part of the logit: it scores items at queries. One file of this folder holds one such class."""

    #: What ``model.components``, calibration, reasons and ablation call it.
    name: ClassVar[str]
    #: no_dates: it counts whole histories, and would know the window that is asked for at a date.
    needs: ClassVar[Literal["dates", "no_dates", "anything"]] = "dates"
    position: ClassVar[int] = 100  # among the others
    reads_lifts: ClassVar[bool] = False  # co-purchases, which take time to look up
    learns_from_cold_items: ClassVar[bool] = False  # items that were not sold in the training part
    net: RuleAndNetwork  # what it scores with, where that is a rule and a network

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

    @classmethod
    def fits(cls, sizes: Sizes) -> bool:
        """Return whether there is anything to score by."""
        return True

    def init_scales(self, queries: QueryTensors, item_rows_NF: Tensor) -> None:
        """Scale the inputs as the first queries of a training ask for, and item features at some of its days."""

    def score(self, queries: QueryTensors) -> Scores | None:
        """Return what items get at ``queries``, None if nothing."""
        raise NotImplementedError

    def scale_(self, factor: float) -> None:
        """Multiply every score by ``factor``, in the weights: here those of ``net``."""
        self.net.scale_(factor)
