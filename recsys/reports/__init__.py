"""What a report is made of.

Each file of ``sections`` is a section of the page, and :mod:`recsys.report` puts them together. ``customers`` shows
single customers, ``charts`` draws, and ``templates`` hold what is said. What systems and segments are called stands in
``glossary.yaml``, which :mod:`recsys.reports.glossary` reads.
"""
