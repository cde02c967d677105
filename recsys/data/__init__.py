"""The way in: raw files become a log of purchases."""
