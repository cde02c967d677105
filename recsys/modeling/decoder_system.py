"""Our decoder with the log and the snapshots it reads. Loaded for a decoder alone: a rule needs no torch.

It loads no Lightning, which only training needs: a service starts in half the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.config import Config
from recsys.data.days import day_date
from recsys.data.native import FrameStyle
from recsys.data.purchases import Histories, Purchases
from recsys.errors import DataError, UsageError
from recsys.evaluation.splits import make_split
from recsys.modeling.decoder.weights import save_weights
from recsys.modeling.explain.sentences import ReasonTexts, reasons_table
from recsys.modeling.generation import SamplingConfig
from recsys.modeling.generation.generate import Continuations, continue_histories
from recsys.modeling.lists import with_cold_start
from recsys.modeling.recommenders.base import Recommender
from recsys.modeling.recommenders.decoder import DecoderRecommender, WithColdStart, load_purchase_decoder, signals_of
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.runs import CONFIG_FILE, HISTORIES_FOLDER, INFO_FILE, LOG_FILE, SNAPSHOT_FOLDER, WEIGHTS_FILE, Run
from recsys.schema import DECODER
from recsys.signals.snapshot import Snapshot, Snapshots
from recsys.storage import write_json, write_text


@dataclass(frozen=True)
class DecoderSystem:
    """A trained decoder over a log, or over a snapshot alone: then it is asked about given histories only."""

    config: Config
    info: dict[str, Any]  # of run.json
    decoder: DecoderRecommender
    log: Purchases  # of no user where only a snapshot is at hand
    written: Mapping[str, bytes]  # what else stands in the folder of the run, by the file's name
    _renewed: dict[int, DecoderRecommender] = field(default_factory=dict, repr=False)  # of the day asked last
    name: str = DECODER

    @property
    def seen_before(self) -> int:
        """First day that has no part in what was learned, nor in what was chosen."""
        return int(self.info["seen_before"])

    @property
    def last_day(self) -> int:
        """Day of the newest purchase known; of a snapshot alone, the day before its own."""
        snapshots = self.decoder.snapshots
        return snapshots.day - 1 if isinstance(snapshots, Snapshot) else self.log.last_day

    def at(self, day: int) -> Recommender:
        """Return the decoder with the best sellers of ``day`` for users of whom it knows nothing."""
        if self.log.n_users:
            return with_cold_start(self.decoder_at(day), self.config, self.log.histories(day))
        sold = self.decoder.snapshots.at(day).sold(7)
        return WithColdStart(self.decoder, Popularity.from_counts("cold_start", sold))

    def decoder_at(self, day: int) -> DecoderRecommender:
        """Return the decoder with its transitions, where it has any, counted of what was bought before ``day``."""
        if not self.log.n_users:
            return self.decoder
        if day not in self._renewed:
            self._renewed.clear()
            self._renewed[day] = self.decoder.renewed(self.log.histories(day))
        return self._renewed[day]

    def extended(self, log: Purchases) -> "DecoderSystem":
        """Return the same weights over ``log``, this one's with newer events; a UsageError without a log."""
        snapshots, model = self.decoder.snapshots, self.decoder.model
        if not isinstance(snapshots, Snapshots):
            raise UsageError("the model was saved without histories, so nothing can be added; save it with them")
        extended = snapshots.extended(log)
        if log.n_items > self.log.n_items:
            model = model.extended(extended.codes)
        decoder = DecoderRecommender(model, extended, self.decoder.user_codes)
        return DecoderSystem(self.config, self.info, decoder, log, self.written)

    def save(self, folder: Path, *, histories: bool) -> None:
        """Write run, snapshot of the day after the log, and histories into ``folder``."""
        for name, content in self.written.items():
            (folder / name).write_bytes(content)
        about = {"system": self.name, "frame_style": self.log.style.to_json()}
        write_json(folder / INFO_FILE, self.info | about)
        save_weights(self.decoder_at(self.last_day + 1).model.state_dict(), folder / WEIGHTS_FILE)
        snapshot = self.decoder.snapshots.at(self.last_day + 1)
        snapshot.save(folder / SNAPSHOT_FOLDER)
        if histories and self.log.n_users:
            self.log.save(folder / HISTORIES_FOLDER)
        log = self.log
        users = f"{log.n_users:,} users, {log.n_events:,} purchases" if log.n_users else "saved without histories"
        facts = {
            "components": ", ".join(self.config.model.components or ["all that fit"]),
            "seen": day_date(self.seen_before),
            "data": f"{users}, {snapshot.n_items:,} items",
            "fingerprint": str(log.manifest.get("fingerprint", ""))[:12] or "none",
            "day": day_date(snapshot.day),
        }
        card = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
        write_text(folder / "card.md", card.format(**self.info | facts))

    def reasons(self, histories: Histories, item: np.ndarray) -> pa.Table:
        """Return why ``item`` (Q, K) is recommended, the reasons table of :mod:`recsys.schema`."""
        decoder = self.decoder_at(histories.day)
        return reasons_table(ReasonTexts(decoder.snapshots.at(histories.day)), decoder, histories, item)

    def similar(self, item: int) -> np.ndarray:
        """Return the cosine (V,) float32 of all vectors with that of ``item``; a UsageError without a transformer."""
        return self.decoder.similar(item)

    def generate(self, histories: Histories, sampling: SamplingConfig, allowed: np.ndarray) -> Continuations:
        return continue_histories(self.decoder_at(histories.day), histories, sampling, allowed)


def open_decoder(run: Run, log: Purchases | None, snapshot: Snapshot | None = None) -> DecoderSystem:
    """Return the decoder of a run over ``log``, or over ``snapshot`` alone; a DataError where there is neither."""
    config, user_codes = run.config, None
    source: Snapshots | Snapshot
    if log is not None:
        source, user_codes = signals_of(config, log, None if snapshot is None else snapshot.codes)
    elif snapshot is not None:
        style = FrameStyle.from_json(run.info.get("frame_style"))
        source, log = snapshot, Purchases.without_users(snapshot.items.to_arrow(), style)
    else:
        raise DataError(f"{run.folder} has neither histories nor a snapshot; save the model again")
    decoder, info = load_purchase_decoder(run, source, user_codes), run.info
    if "seen_before" not in info:
        info = info | {"seen_before": make_split(log, config.split).validation.end_day}
    paths = [path for path in (run.folder / CONFIG_FILE, run.folder / LOG_FILE) if path.is_file()]
    return DecoderSystem(config, info, decoder, log, {path.name: path.read_bytes() for path in paths})
