"""The GPUs of this machine, and the ranks that train on them."""
