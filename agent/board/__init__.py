"""What the board itself needs: overlays, CAN, gpsd, chrony, watchdog, little flash wear.

``board apply`` renders it from profiles (``firmware-config/boards``), shows a diff, writes, and
keeps what stood there before, so that ``board undo`` restores it exactly:

==================  ==========================================================================
``profile``         boards and HATs as data
``wanted``          what the installer asks for, checked
``render``          pure: what is asked for, as a table of targets
``merge``           pure: how a target's content goes into a file that is there
``standing``        what stands at a place, and putting something there
``record``          what was done and what stood there before, durable
``plan``            targets, places and record -> changes; refuses what a human changed
``apply``           carries a plan out, and undoes it; safe against a cut at any moment
``options``         the command line's options, to what is wanted and back
``cli``             the commands
==================  ==========================================================================
"""
