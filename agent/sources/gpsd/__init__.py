"""GPS through gpsd: the JSON protocol, its receivers, the session and the thread."""
