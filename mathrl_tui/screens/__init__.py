"""The console's screens by name, one a file."""
