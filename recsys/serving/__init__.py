"""The HTTP service: lists for a shop, the events that come back, and what is kept of both."""
