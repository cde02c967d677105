"""What the files of a shop hold, and which column map reads them: guesses with their reasons, never without."""
