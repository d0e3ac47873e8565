"""Communication and life cycle of a run's processes: channels, outbox, orders, pid files."""
