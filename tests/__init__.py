"""Tests: a mirror of the packages, helpers in support, whole runs in product, injected faults in faults."""
