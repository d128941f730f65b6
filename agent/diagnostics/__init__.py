"""The diagnostic bundle: what an engineer needs to find a fault, and no secret.

``redact`` is the table of what is taken out, ``secrets`` knows what this board's own
secrets are, ``parts`` is the table of what is in it, ``bundle`` writes the file.
Nothing gets into the file but through the redaction.
"""
