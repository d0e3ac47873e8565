"""What goes in: questions checked and split, the demo's own, prompts, token sequences, each found by its content."""
