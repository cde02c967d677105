"""What a report is made of.

Each file of ``sections`` is a section of the page, and ``page`` puts them together. ``method`` says how the run was
measured, ``customers`` shows single customers, ``charts`` draws. What systems and segments are called stands in
:mod:`recsys.reports.glossary`.
"""
