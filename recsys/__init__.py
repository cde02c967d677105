"""Recommend what each customer will buy next with a decoder-only transformer over purchase histories."""

__version__ = "0.1.0"
