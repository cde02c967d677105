"""Everything that gives lists: rules, classical models and the decoder, behind one interface."""
