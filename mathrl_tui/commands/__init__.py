"""One file a command or family of commands; each function's parameters are the command's arguments and options."""
