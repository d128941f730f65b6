"""The updater: root's side of a software update. It trusts nothing of the agent's user.

Two programs of one source:

- ``python -m agent.updater`` (``milepost-update.service``) takes a request from the agent's
  inbox and *prepares*: copies the package, checks signature, digest, architecture, name and
  version, keeps the package that runs now, and stages the second program.
- ``updater.pyz``, staged in the updater's own directory, *carries out*: ``dpkg --install``,
  health check, roll back. dpkg replaces the agent's virtual environment meanwhile, so this
  one needs nothing but the system's Python; it starts itself again after a power cut
  (``milepost-update-resume.service``).

Invariants:

1. Nothing of a package is read but its bytes until its signature is verified.
2. From the first change of the system on, ``journal.json`` says which step is under way,
   and both packages are whole and durable beside it. Each step can be repeated.
3. It ends with the new version healthy, or with the one before it, or says in the result
   that even the roll back failed.
4. What root reads or writes in the agent's inbox follows no symbolic link.

The modules that go into ``updater.pyz`` (``stage.CARRIED``) import the standard library only.
"""
