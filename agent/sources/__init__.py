"""Where measurements come from. Each source is one named thread that survives its failures."""
