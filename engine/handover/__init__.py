"""How weights get from trainer to worker: immutable versions in shared memory."""
