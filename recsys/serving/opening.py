"""What a service starts with: models that may stand in for one another, and scenarios as they were saved."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from recsys.config import Config
from recsys.data.days import day_date
from recsys.data.forget import fingerprints_of
from recsys.data.purchases import Purchases
from recsys.errors import RunError, UsageError
from recsys.library import Model, load
from recsys.runs import Run
from recsys.schema import DECODER
from recsys.serving.live import Live
from recsys.serving.scenarios import ScenarioSettings
from recsys.serving.store import Store
from recsys.serving.tables import EventRow

if TYPE_CHECKING:
    from recsys.modeling.decoder_system import DecoderSystem


def open_models(runs: Sequence[Run]) -> dict[str, Model]:
    """Return the models of ``runs`` by name, all decoders over the same purchases; a RunError says which is not."""
    models: dict[str, Model] = {}
    for run in runs:
        if run.name in models:
            raise UsageError(f"found two runs called {run.name}; expected one name each; rename the folder of one")
        model = models[run.name] = load(run.folder)
        if model.name != DECODER:
            raise RunError(
                f"{run.name} holds the rule {model.name}; expected a decoder; ask it for the rule by its name"
            )
        if not model.log.n_users:
            raise RunError(
                f"{run.name} was saved without histories; expected a run with its purchases; save it with them"
            )
        if model.log.fingerprint != models[runs[0].name].log.fingerprint:
            raise RunError(
                f"{run.name} learned from other purchases than {runs[0].name}; expected the same, since live events go "
                "to all; serve it by itself"
            )
    return models


def decoder_of(model: Model) -> "DecoderSystem":
    """Return the system of one of :func:`open_models`."""
    return cast("DecoderSystem", model.system)


def saved_scenarios(store: Store) -> dict[str, ScenarioSettings]:
    """Return the scenarios by name; a RunError names one that another version wrote."""
    scenarios: dict[str, ScenarioSettings] = {}
    for name, settings in store.scenarios().items():
        try:
            scenarios[name] = ScenarioSettings.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RunError(
                f"the scenario {name!r} in the database cannot be read ({place}: {first['msg']}); expected settings as "
                "docs/serving.md has them; serve it by the version of recsys that saved it, and remove it there"
            ) from error
    return scenarios


def events_since(store: Store, log: Purchases, live: Live) -> tuple[list[EventRow], list[str]]:
    """Return the events of the database that ``log`` does not hold, and notes on those that it does.

    A log that was prepared anew holds what was bought up to its last day; what became of an item that it lacks is not
    known either.
    """
    items, rows, last = store.items(), list(store.events()), day_date(log.last_day)
    n_before = store.events_before([log.fingerprint, *fingerprints_of(log.manifest)])
    known = [(seq, row) for seq, row in rows if row.item_id in items or live.knows_item(row.item_id)]
    kept = [row for seq, row in known if seq > n_before or row.time.date() > last]
    if len(kept) == len(rows):
        return kept, []
    return kept, [
        f"{len(rows) - len(kept):,} of {len(rows):,} events in the database are not counted: they are of {last} or "
        "earlier, which these purchases hold, or of items that they lack"
    ]


def zone_of(config: Config) -> ZoneInfo:
    """Return the zone of the shop's clock, as its column map has it; UTC where it does not say."""
    columns = config.data.columns
    return ZoneInfo(str(columns.get("timezone", "UTC")) if isinstance(columns, dict) else "UTC")


def database_url(run: Run, given: str | None) -> str:
    """Return where live events lie: the address given, else a file of SQLite named by the run."""
    if given is None:
        return f"sqlite:///data/serving/{run.name}.sqlite"
    if "://" not in given:
        raise UsageError(f"--database is {given}; expected an address such as postgresql://host/shop or sqlite:///path")
    return given
