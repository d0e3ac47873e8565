"""The detached supervisor of a run.

It is started as `python -m engine.supervisor RUN_PATH`.
Only the supervisor starts, watches, restarts and ends the run's engine processes, and only it writes the
journal.
"""
