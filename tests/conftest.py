"""What every test stands on: signals and environment as a person's shell leaves them.

A shell starts background jobs with Ctrl-C ignored, and nohup ignores that the terminal closed. Both are inherited, even
by the programs that the tests start and then press Ctrl-C on. So is the size of a terminal that some libraries put
into the environment, where it hides the size of the terminal that a program really has.
"""

import os
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
