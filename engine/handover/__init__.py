"""Move weights from trainer to worker: immutable versions in shared memory."""
