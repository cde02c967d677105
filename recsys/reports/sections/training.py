"""The section on how training went."""

from functools import partial

from markupsafe import Markup

from recsys.reports import charts, method
from recsys.reports.sections.base import Context, Section, fill
from recsys.reports.shell import draw_chart

_TEMPLATE = """
{% from "chart.html.j2" import chart %}
<p class="lede">The loss says how surprised the decoder is by real purchases. {{ training }}</p>
{{ chart(drawn, drawn.alt) }}
{% if held_out %}
<h3>Every purchase of the held-out customers</h3>
<p class="lede">Here every purchase of a history is asked for, not the last one only, and the decoder stands alone.
Recall@k of the next item is the share of purchases among the k most likely items; of the whole sequence, the share of
customers all of whose purchases were. Loss and entropy are in nats.</p>
<div class="scroll" tabindex="0" role="group" aria-label="{{ held_out[0] }}">
<table>
  <caption>{{ held_out[0] }}</caption>
  <thead><tr><th scope="col">Measure</th><th scope="col">Next item</th><th scope="col">Whole sequence</th></tr></thead>
  <tbody>
  {% for name, next_item, whole_sequence in held_out[1] %}
  <tr><th scope="row">{{ name }}</th><td>{{ next_item }}</td><td>{{ whole_sequence or "–" }}</td></tr>
  {% endfor %}
  </tbody>
</table>
</div>
{% endif %}
"""


def _render(context: Context) -> Markup:
    config = context.run.config
    return fill(
        _TEMPLATE,
        training=method.training(config),
        drawn=draw_chart("curves", method.curves(config), partial(charts.curves_figure, context.log)),
        held_out=method.held_out(context.run),
    )


SECTION = Section("training", "Training", 50, _render)
