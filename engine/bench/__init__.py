"""Speed and numerics of the engine on a real device, beside those of TRL, by scripts that are kept."""
