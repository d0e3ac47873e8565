"""Messages between processes.

They are jobs, results, weight references and the control socket's.
"""
