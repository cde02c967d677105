"""How the decoder is fitted: batches, losses, validation, checkpoints."""
