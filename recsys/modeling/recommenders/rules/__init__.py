"""The rules and classical models the decoder is held against, found by listing this folder.

A file names its systems in ``SYSTEMS``, each with what fits it to what is known of everybody at a day.
"""
