"""The section that says how scores were measured."""

from markupsafe import Markup

from recsys.evaluation.results import METRICS_FILE
from recsys.reports import method
from recsys.reports.glossary import metric_meaning, metric_name
from recsys.reports.sections.base import Context, Section, fill

_TEMPLATE = """
{% from "tables.html.j2" import pairs %}
<ol class="steps">{% for sentence in protocol %}<li>{{ sentence }}</li>{% endfor %}</ol>
<h3>What the metrics say</h3>
<dl class="terms">{% for name, meaning in definitions %}<dt>{{ name }}</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>
<p class="lede">A number after @ is how much of the list is looked at: {{ metric }} looks at the first {{ k or "few" }}
products.</p>
{% if recorded %}
<details class="more"><summary>The protocol as the evaluation recorded it</summary>
{{ pairs("From " ~ file ~ ".", recorded) }}
</details>
{% endif %}
"""


def _render(context: Context) -> Markup:
    scores = context.scores
    names = dict.fromkeys(metric.partition("@")[0] for metric in scores.metrics)
    definitions = [(metric_name(name), metric_meaning(name)) for name in names]
    return fill(
        _TEMPLATE,
        protocol=method.protocol(context.run.config, scores),
        definitions=[(name, meaning) for name, meaning in definitions if meaning],
        metric=context.metric,
        k=scores.k,
        recorded=list(method.flattened(scores.protocol)),
        file=METRICS_FILE,
    )


SECTION = Section("method", "How it was measured", 100, _render)
