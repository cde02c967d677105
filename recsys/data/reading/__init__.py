"""Files as shops keep them, read as tables of text: never a row lost, never a guess unsaid."""
