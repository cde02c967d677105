"""The section that shows customers one by one."""

from markupsafe import Markup

from recsys.reports.customers import N_SHOWN
from recsys.reports.sections.base import Context, Section, fill


def _render(context: Context) -> Markup:
    gallery = context.gallery
    has_reasons = any(shown.reason for customer in gallery.customers for shown in customer.listed)
    return fill("sections/customers.html.j2", context=context, gallery=gallery, has_reasons=has_reasons)


def _heading(context: Context) -> str:
    n_customers = len(context.gallery.customers)
    return "Twenty customers" if n_customers == N_SHOWN else f"{n_customers} customers"


SECTION = Section("customers", "Twenty customers", 60, _render, _heading)
