"""The section that shows customers one by one."""

from markupsafe import Markup

from recsys.data.item_names import long_date
from recsys.reports.customers import N_SHOWN
from recsys.reports.sections.base import Context, Section, fill

_TEMPLATE = """
{% macro product(shown, other) %}
<span>{{ shown.product.label }}
  {% if shown.hit %}<span class="mark hit">✓ {{ other }}</span>{% endif %}
  {% if shown.repeat %}<span class="mark repeat">↻ bought before</span>{% endif %}
  <small>{{ shown.product.detail }}{% if shown.product.detail %} · {% endif %}{{ shown.product.id }}</small>
  {% if shown.reason %}<small class="reason">{{ shown.reason }}</small>{% endif %}</span>
{% endmacro %}
{% macro plural(n) %}{{ "" if n == 1 else "s" }}{% endmacro %}
<p class="lede">Not picked by hand: drawn by lot (seed {{ gallery.seed }}) from the
  {{ "{:,}".format(gallery.n_eligible) }} customers
  {{ "who bought something in the window of " ~ date if weekly else "who were asked for their last purchase" -}}
  , spread evenly from the shortest history to the longest, without looking at lists or results.</p>
<ul class="legend">
  <li><span class="mark hit">✓ bought</span> recommended, and bought
    {{- " in the window" if weekly else " as the last purchase" }}</li>
  <li><span class="mark repeat">↻ bought before</span> was in the customer's history already</li>
  {% if has_reasons %}<li>The last line below a suggestion says why: which past purchases raised it most in the
    decoder's own terms</li>{% endif %}
</ul>
{% for customer in gallery.customers %}
<details class="customer"{% if loop.index in (1, 8, 15) %} open{% endif %}>
  <summary>
    <h3>Customer {{ customer.id }}</h3>
    <span>
      {%- if customer.n_purchases -%}
        {{ "{:,}".format(customer.n_purchases) }} purchase{{ plural(customer.n_purchases) }} before
      {%- else %}no purchase before{% endif %},
      {{ customer.n_bought }} product{{ plural(customer.n_bought) }} bought,
      {{ customer.recommended | selectattr("hit") | list | length }} of {{ customer.recommended | length }} suggestions
      right</span>
    <span class="strip" aria-hidden="true">
      {%- for shown in customer.recommended %}<i{% if shown.hit %} class="hit"{% endif %}></i>{% endfor -%}
    </span>
  </summary>
  <div class="columns">
    <div>
      <h4>History, newest first</h4>
      {% for date, products in customer.days %}
      <h5>{{ date }}</h5>
      <ul class="items">
        {% for item, count in products %}
        <li><span>{{ item.label }}{% if count > 1 %} × {{ count }}{% endif -%}
          <small>{{ item.detail }}{% if item.detail %} · {% endif %}{{ item.id }}</small></span></li>
        {% endfor %}
      </ul>
      {% else %}
      <p class="none">A new customer: nothing is known.</p>
      {% endfor %}
      {% if customer.n_older %}<p class="none">and {{ "{:,}".format(customer.n_older) }} more purchases</p>{% endif %}
    </div>
    <div>
      <h4>Recommended{{ " on " ~ date if weekly else "" }}</h4>
      <ol class="items">
        {% for shown in customer.recommended %}
        <li{% if shown.hit %} class="hit"{% endif %}><b>{{ loop.index }}</b>{{ product(shown, "bought") }}</li>
        {% else %}<li class="none">no list</li>
        {% endfor %}
      </ol>
    </div>
    <div>
      <h4>What they bought</h4>
      <ul class="items">
        {% for shown in customer.bought %}
        <li{% if shown.hit %} class="hit"{% endif %}>{{ product(shown, "recommended") }}</li>
        {% endfor %}
      </ul>
      {% if customer.n_bought > customer.bought | length %}
      <p class="none">and {{ customer.n_bought - customer.bought | length }} more products that were not recommended</p>
      {% endif %}
    </div>
  </div>
</details>
{% endfor %}
"""


def _render(context: Context) -> Markup:
    gallery = context.gallery
    has_reasons = any(shown.reason for customer in gallery.customers for shown in customer.recommended)
    date = long_date(gallery.fold)
    return fill(_TEMPLATE, gallery=gallery, date=date, weekly=context.is_weekly, has_reasons=has_reasons)


def _heading(context: Context) -> str:
    n_customers = len(context.gallery.customers)
    return "Twenty customers" if n_customers == N_SHOWN else f"{n_customers} customers"


SECTION = Section("customers", "Twenty customers", 60, _render, _heading)
