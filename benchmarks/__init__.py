"""Speed and quality against peers; each table of RESULTS.md names the command that made it."""
