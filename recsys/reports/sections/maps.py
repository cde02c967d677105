"""The section on item maps of the run, and of runs beside it."""

from functools import partial
from typing import Any

from markupsafe import Markup

from recsys.reports import charts, method
from recsys.reports.item_map.files import TITLES
from recsys.reports.maps import load_maps
from recsys.reports.sections.base import Context, Section, fill
from recsys.reports.shell import draw_chart
from recsys.runs import LOG_FILE, Run

_TEMPLATE = """
{% from "chart.html.j2" import chart %}
{% macro drawn_maps(maps) %}
  {% for one in maps.maps %}
  <h3>By the vectors of {{ one.title }}</h3>
  <figure class="panel picture"><img src="{{ one.whole }}" alt="Map of all items by the vectors of {{ one.title }}">
    <figcaption>All items. <a href="{{ one.page }}">Explore this map</a>: point at a dot to read what it is.
    </figcaption>
  </figure>
  {% if one.few %}
  <figure class="panel picture"><img src="{{ one.few }}" alt="Map of some items by the vectors of {{ one.title }}">
    <figcaption>Some items, drawn by lot, with what they are.</figcaption></figure>
  {% endif %}
  {% endfor %}
  {% if maps.measures %}
  <div class="scroll" tabindex="0" role="group" aria-label="How good the maps are">
  <table>
    <caption>Share of like items among the ten nearest, and other measures; higher is better.</caption>
    <thead><tr><th scope="col">Measure</th>
      {%- for name in maps.vectors %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
    <tbody>{% for name, values in maps.measures %}
      <tr><th scope="row">{{ name }}</th>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}
    </tbody>
  </table>
  </div>
  {% endif %}
{% endmacro %}
<p class="lede">Each dot is an item; items that are alike by their vectors stand near one another. Distances between
groups, and their sizes, mean nothing (t-SNE).</p>
{% if maps %}{{ drawn_maps(maps) }}{% endif %}
{% for other in beside %}
<h3>Run “{{ other.name }}”: {{ other.fitted }}</h3>
{% if other.curves %}{{ chart(other.curves, other.curves.alt) }}{% endif %}
{% if other.maps %}{{ drawn_maps(other.maps) }}{% else %}
<p class="lede">No map of it was drawn: <code>recsys plots map --run {{ other.name }}</code>.</p>
{% endif %}
{% endfor %}
"""


def _render(context: Context) -> Markup | None:
    maps = load_maps(context.run)
    beside = [_beside(other, context.run, number) for number, other in enumerate(context.beside)]
    return fill(_TEMPLATE, maps=maps, beside=beside) if maps or beside else None


def _beside(other: Run, run: Run, number: int) -> dict[str, Any]:
    """Return what is shown of another run: its name, what it fitted, its training, its maps."""
    fitted = TITLES["items" if other.config.text_model.objective is None else "text"]
    log = charts.read_log(other.folder / LOG_FILE)
    curves = draw_chart(f"beside{number}", method.curves(other.config), partial(charts.curves_figure, log))
    return {"name": other.name, "fitted": fitted, "curves": curves, "maps": load_maps(other, run)}


SECTION = Section("maps", "Maps of the items", 70, _render)
