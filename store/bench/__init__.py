"""The store's targets, measured: `python -m store.bench` prints each with its figure."""
