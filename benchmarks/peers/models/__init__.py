"""The peers, by library. They run in .venv-peers and import their library only when they are fitted."""
