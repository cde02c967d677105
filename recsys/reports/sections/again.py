"""The section that says how to make the run again."""

from markupsafe import Markup

from recsys.config import dump_config
from recsys.reports import method
from recsys.reports.sections.base import Context, Section, fill

_TEMPLATE = """
{% from "tables.html.j2" import pairs %}
<p class="lede">With the same code, data and seed these commands give the same figures.</p>
<pre>{{ commands | join("\n") }}</pre>
{{ pairs("What made this run.", facts) }}
<details class="more"><summary>The whole configuration</summary>
<pre>{{ config }}</pre>
</details>
"""


def _render(context: Context) -> Markup:
    run = context.run
    return fill(
        _TEMPLATE,
        commands=method.commands(run),
        facts=method.run_facts(run, context.today),
        config=dump_config(run.config),
    )


SECTION = Section("again", "Do it again", 110, _render)
