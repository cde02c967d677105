"""Honest measuring: splits, metrics, intervals, results. Nothing here knows a model."""
