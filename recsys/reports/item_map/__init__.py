"""The item map: every item as a point, like items near one another, out of any vectors of theirs."""
