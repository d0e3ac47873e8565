"""Disk usage of a home, and the removal of runs and leftovers (`rm`, `gc`)."""
