"""Invented purchases in H&M's form, at any size."""
