"""Recommenders of other libraries on exactly our splits, in an environment of their own: ``make bench-peers``.

``export`` writes the split as Parquet (:mod:`benchmarks.peers.export`), ``run.py`` fits the peers and writes lists
without importing the package, ``score`` reads the lists like those of any other system (:mod:`benchmarks.peers.score`).
"""
