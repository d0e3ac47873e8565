"""Train a policy: packed batches, losses, optimizer, checkpoints, rollouts."""
