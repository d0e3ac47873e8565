"""One detached supervisor a run: it alone starts, watches, restarts and ends the run's engine processes, and it alone
writes the run's journal. `python -m engine.supervisor RUN_PATH`."""
