"""Why an item is recommended."""
