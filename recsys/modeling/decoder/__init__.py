"""Our decoder-only transformer and the components of its logit."""
