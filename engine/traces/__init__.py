"""Worked solutions that SFT learns from: asked of a teacher over an OpenAI-compatible endpoint, or the data set's own.

`request` asks, `journal` keeps every answer that was paid for, `pace` adapts the number of requests in flight,
`budget` counts tokens and money, `cleaning` makes training text of what came. The stage is engine/stages/traces.py.
"""
