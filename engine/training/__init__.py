"""Train a policy: packing, losses, optimizer, checkpoints, rollouts."""
