"""What a report is made of.

``method`` says how the run was measured, ``labels`` and ``customers`` show single customers, ``page`` puts everything
into the template. What systems, metrics and segments are called stands in :mod:`recsys.reports.glossary`.
"""
