"""Histories continued item by item."""
