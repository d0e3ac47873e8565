"""Disk usage of a home, and removal of runs and leftovers (`rm`, `gc`)."""
