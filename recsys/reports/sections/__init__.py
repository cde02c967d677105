"""The sections of a run's report: each file of this folder holds one, ``SECTION``; they are found by listing it."""
