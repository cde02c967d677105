"""Samplers of negatives: item indices shared by a batch, and the log of the probability of each."""

import torch
from torch import Tensor


class MixedSampler:
    """Draw items with replacement, half by popularity and half uniformly.

    log_q is the log of the expected number of draws up to a constant shared by all items, as the correction of sampled
    softmax needs (Yi et al., 2019, Sampling-Bias-Corrected Neural Modeling).
    """

    def __init__(self, counts_V: Tensor, uniform_share: float = 0.5) -> None:
        """Take how often each item was sold, (V,) with 0 at padding."""
        allowed = torch.ones_like(counts_V, dtype=torch.float64)
        allowed[0] = 0
        uniform = allowed / allowed.sum()
        popular = counts_V.double() / counts_V.sum().clamp(min=1)
        probability = uniform_share * uniform + (1 - uniform_share) * popular
        probability[0] = 0
        probability /= probability.sum()
        self._cumulative = probability.cumsum(0)
        self._log_q = probability.clamp(min=1e-30).log().float()

    def sample(self, n_negatives: int, generator: torch.Generator | None = None) -> Tensor:
        """Return (N,) int64 item indices, never padding."""
        draws = torch.rand(n_negatives, dtype=torch.float64, generator=generator, device=self._cumulative.device)
        items = torch.searchsorted(self._cumulative, draws * self._cumulative[-1], right=True)
        return items.clamp(1, len(self._cumulative) - 1)

    def log_q(self, items: Tensor) -> Tensor:
        """Return the log-probability of drawing each of ``items``, same shape, float32."""
        return self._log_q[items]
