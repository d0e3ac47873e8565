"""The regression watch: lm-eval's tasks in process, row by row, so that arms can be paired on the same documents."""
