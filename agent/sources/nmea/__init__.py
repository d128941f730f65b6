"""GPS straight from a serial port: framing, sentences, epochs and the thread."""
