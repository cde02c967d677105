"""The rules and classical models the decoder is held against: each file of this folder holds some, found by listing it.

A file names its systems in ``SYSTEMS``, each with the function that fits it to what is known of everybody at a day. It
may choose its settings on the fold it is given, where there is one.
:mod:`recsys.modeling.recommenders.rules.personal` is what most of them share.
"""
