"""Communication and life cycle of a run's processes.

It holds channels, outbox, orders and pid files.
"""
