"""Small programs of the maintainers: pins, README block, generated documentation, the limits of the house."""
