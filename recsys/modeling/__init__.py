"""The decoder, its heads, losses, training and prediction, and the rules it is held against."""
