"""How a policy learns: packed batches, log-probs, losses, optimizer, checkpoints, rollouts and their replay."""
