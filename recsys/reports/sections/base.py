"""What a section is, and what it is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from markupsafe import Markup

from recsys.data.purchases import Purchases
from recsys.evaluation.results import Scores
from recsys.reports.charts import Log
from recsys.reports.customers import Gallery
from recsys.reports.glossary import metric_name
from recsys.reports.shell import environment
from recsys.runs import Run


@dataclass(frozen=True)
class Context:
    """What the page is about."""

    run: Run
    data: Purchases
    scores: Scores
    log: Log
    gallery: Gallery
    today: date
    beside: Sequence[Run] = ()

    @property
    def metric(self) -> str:
        """The main metric as it is printed."""
        return metric_name(self.scores.main_metric)

    @property
    def is_weekly(self) -> bool:
        """Whether whole windows are held out."""
        return self.run.config.split.protocol == "weekly"

    @property
    def over_all(self) -> str:
        """Words that follow a value which is a mean over windows."""
        return " over all windows" if self.is_weekly else ""


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    #: Its address in the page.
    name: str
    #: What the list of sections calls it; its heading too, unless ``heading`` gives another.
    title: str
    #: Its place on the page, in rising order.
    position: int
    #: Returns its HTML below the heading, as :func:`fill` makes it; None where there is nothing to show.
    render: Callable[[Context], Markup | None]
    heading: Callable[[Context], str] | None = None


def fill(template: str, **values: Any) -> Markup:  # noqa: ANN401 - whatever a template can show
    """Return the Jinja ``template`` filled with ``values``, which are escaped.

    >>> fill("<p>{{ name }}</p>", name="Bits & Bobs")
    Markup('<p>Bits &amp; Bobs</p>')
    """
    return Markup(environment().from_string(template).render(values))  # noqa: S704 - the environment escapes
