"""What a report is made of; each file of ``sections`` is a section, and :mod:`recsys.report` puts them together."""
