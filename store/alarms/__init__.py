"""Alarm rules over the scalars of a run.

They are pure and incremental, with a small constant cost for each value.

    Scalar ─▶ Watch ─▶ rule of its metric and arm ─▶ AlarmFinding or nothing

The supervisor runs the rules and journals what they find; the console shows the journal's events.
"""
