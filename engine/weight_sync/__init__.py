"""Move weights from trainer to worker, as versions in shared memory."""
