"""The decoders and the text transformer of the project that this one began as."""
