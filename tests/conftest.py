"""What every test stands on: signals as a person's shell leaves them.

A shell starts background jobs with Ctrl-C ignored, and nohup ignores that the terminal closed. Both are inherited,
even by the programs that the tests start and then press Ctrl-C on.
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
