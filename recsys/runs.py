"""Run folders under ``models/``: what each holds, and how one is found.

A run folder holds ``config.yaml`` (resolved), ``run.json`` (seed, code version, data fingerprint, command, …),
``weights.safetensors``, ``metrics.csv`` (one row a logged step or epoch), ``checkpoints`` and TensorBoard's events.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recsys.config import MODELS_DIR, REPORTS_DIR, Config, dump_config
from recsys.data.forget import fingerprints_of
from recsys.data.purchases import Purchases, open_purchases
from recsys.errors import RecsysError, RunError
from recsys.settings import read_yaml, validated
from recsys.storage import read_json

CONFIG_FILE = "config.yaml"
INFO_FILE = "run.json"
WEIGHTS_FILE = "weights.safetensors"
LOG_FILE = "metrics.csv"
#: The folder of checkpoints, and the one of the last epoch that has ended.
CHECKPOINTS, LAST, UNTRAINED = "checkpoints", "last.safetensors", "untrained.safetensors"
#: Of a model that was saved whole: what is known of items at a day, and the purchases of known users.
SNAPSHOT_FOLDER = "snapshot"
HISTORIES_FOLDER = "histories"
#: What the run's text transformer says of every distinct text, with the mark of what it was made from.
TEXT_VECTORS_FILE = "text_vectors.safetensors"
#: Which system serves the shop, and why, in the report folder.
CHOICE_FILE = "choice.json"
#: Scores on held-out customers, in the report folder of a run of an original architecture.
HELD_OUT_FILE = "held_out.json"
#: Vectors of items that a map may be drawn of. text: by the text transformer that the run fitted; bert: the stored text
#: vectors that the run's configuration means; items: those by which the run's decoder scores items.
Embeddings = Literal["text", "bert", "items"]
#: These, and what a text transformer says that has learned nothing yet.
Vectors = Embeddings | Literal["untrained"]


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) training run."""

    folder: Path
    config: Config
    info: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run: its folder's."""
        return self.folder.name

    @property
    def report_folder(self) -> Path:
        """Folder of everything that is said about the run."""
        return REPORTS_DIR / self.name

    @property
    def identity(self) -> str:
        """What tells this training from any other of its name: lists bear it."""
        return " ".join(str(self.info.get(key, "")) for key in ("created", "seed", "data_fingerprint"))

    def table_path(self, system: str, fold_name: str) -> Path:
        """Return where the lists of ``system`` for a fold are kept."""
        return self.report_folder / "recommendations" / system / f"{fold_name}.parquet"

    def open_data(self) -> Purchases:
        """Return the prepared data the run learned from, perhaps without users who were removed since.

        RunError where other data are there now, or nobody can tell any more whom the run held out.
        """
        data, trained_on = open_purchases(self.config.data.folder), str(self.info["data_fingerprint"])
        if trained_on != data.fingerprint and trained_on in fingerprints_of(data.manifest):
            if self.config.split.protocol == "customers":  # whom it draws depends on how many there are
                raise RunError(
                    f"users were removed from {self.config.data.folder} since {self.folder} was trained, so it is not "
                    "known any more whom it has held out; train anew"
                )
        elif trained_on != data.fingerprint:
            raise RunError(
                f"{self.config.data.folder} now holds other data (fingerprint {data.fingerprint[:12]}) than "
                f"{self.folder} was trained on ({trained_on[:12]}); prepare the same data again or train anew"
            )
        return data


def find_run(name: str | None) -> Run:
    """Return the run called ``name`` (under ``models/``, else a folder), by default the newest; RunError for none."""
    folder = _newest() if name is None else MODELS_DIR / name
    if name is not None and not folder.is_dir() and Path(name).is_dir():
        folder = Path(name)
    missing = [file for file in (CONFIG_FILE, INFO_FILE, WEIGHTS_FILE) if not (folder / file).is_file()]
    if CONFIG_FILE not in missing and INFO_FILE in missing:
        how = "go on with: recsys train --resume" if has_checkpoint(folder) else "begin anew with: recsys train --force"
        raise RunError(
            f"{folder} lacks {', '.join(missing)}: its training has not ended; wait for it, or, if it was stopped, "
            f"{how} --config {folder / CONFIG_FILE}"
        )
    if missing:
        known = ", ".join(path.name for path in _runs()) or "none yet: run `recsys train` first"
        found = f"lacks {', '.join(missing)}" if folder.is_dir() else "does not exist"
        raise RunError(f"{folder} is not a run folder: it {found}; known runs: {known}")
    info = read_json(folder / INFO_FILE)
    if not isinstance(info, dict) or "data_fingerprint" not in info:
        raise RunError(
            f"{folder / INFO_FILE} does not say which data the run learned from (data_fingerprint); it may "
            "have been cut short or edited: restore it, or train again with --force"
        )
    return Run(folder, config_in(folder), info)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run folder holds an epoch to go on from."""
    return (folder / CHECKPOINTS / LAST).is_file()


def is_run(folder: Path) -> bool:
    """Return whether a training wrote ``folder``: it has ended, or its configuration is as trainings write it."""
    if (folder / INFO_FILE).is_file():
        return True
    try:
        return (folder / CONFIG_FILE).read_text(encoding="utf-8") == dump_config(config_in(folder))
    except (RecsysError, OSError, ValueError):
        return False


def config_in(folder: Path) -> Config:
    """Return the configuration that a run wrote into its ``folder``; a ConfigError says what is wrong with it."""
    path = folder / CONFIG_FILE
    return validated(read_yaml(path), Config, str(path))


def _runs(file: str = INFO_FILE) -> list[Path]:
    """Return the folders of runs that have ``file``, which without one are those whose training has ended."""
    return sorted(path.parent for path in MODELS_DIR.glob(f"[!.]*/{file}"))  # .…: set aside while it is replaced


def _newest() -> Path:
    """Return the newest run that has ended; where none has, the newest that began: what it lacks is then said."""
    for file in (INFO_FILE, CONFIG_FILE):
        if runs := _runs(file):
            return max(runs, key=lambda folder: (folder / file).stat().st_mtime)
    raise RunError(f"there is no run under {MODELS_DIR}/; run `recsys train` first")
