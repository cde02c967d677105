"""Write cleaned purchases as a folder of flat arrays and tables, whole or not at all."""

from datetime import UTC, datetime
from typing import Any

from recsys.config import DataConfig
from recsys.data.assemble import assemble
from recsys.data.clean import clean
from recsys.data.engine import open_engine
from recsys.data.sources import read_source
from recsys.storage import code_version, replacing, require_absent, write_json


def prepare(config: DataConfig, *, force: bool = False) -> dict[str, Any]:
    """Write the prepared data of ``config`` to its folder, whole or not at all, and return the manifest.

    Raises:
        OutputExistsError: the folder exists and ``force`` is false.
        DataError: the input cannot be used.
    """
    require_absent(config.folder, force=force)
    with open_engine(config.engine) as engine:
        tables = read_source(config, engine)
        inputs = [{"name": path.name, "bytes": path.stat().st_size} for path in tables.inputs]
        cleaned = clean(tables, config, engine)
    with replacing(config.folder) as folder:
        folder.mkdir()
        facts = assemble(cleaned, folder).facts
        report = cleaned.report.to_dict()
        manifest = _describe(config, inputs) | facts | {"report": report}
        write_json(folder / "report.json", report)
        write_json(folder / "manifest.json", manifest)
    return manifest


def _describe(config: DataConfig, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": config.source,
        "settings": config.model_dump(mode="json"),
        "window": {"start": config.start, "end": config.end},
        "inputs": inputs,
        "code_version": code_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
