"""The engine: merges what the sources say, decides on the mode, takes the samples."""
