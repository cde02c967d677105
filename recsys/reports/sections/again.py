"""The section that says how to make the run again."""

from markupsafe import Markup

from recsys.config import dump_config
from recsys.reports.glossary import flattened, shown
from recsys.reports.sections.base import Context, Section, fill
from recsys.runs import Run

#: Keys of run.json that come first, in this order, with their words; other keys follow.
_FACTS = {
    "command": "Trained with",
    "created": "Trained on",
    "seed": "Seed",
    "code_version": "Code version",
    "data_fingerprint": "Data fingerprint",
}


def commands(run: Run) -> list[str]:
    """Return the commands that make this page again; one that went on with a training would make another run."""
    trained = str(run.info.get("command"))
    if "--config" not in trained or "--resume" in trained:
        trained = f"recsys train --config models/{run.name}/config.yaml"
    others = ("predict --folds", "evaluate", "report")
    return [trained, *(f"recsys {verb} --run {run.name}" for verb in others)]


def _render(context: Context) -> Markup:
    run, info = context.run, context.run.info
    facts = [(words, shown(info[key])) for key, words in _FACTS.items() if key in info]
    facts += flattened({key: value for key, value in info.items() if key not in _FACTS})
    facts.append(("This page written", context.today.isoformat()))
    return fill("sections/again.html.j2", commands=commands(run), facts=facts, config=dump_config(run.config))


SECTION = Section("again", "Do it again", 110, _render)
