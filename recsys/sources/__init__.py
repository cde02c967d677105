"""Readers: one module a source, each returns raw tables as :mod:`recsys.schema` describes them."""
