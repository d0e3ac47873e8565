"""Worked solutions for SFT, from a teacher or from the data set itself.

    request ─▶ journal ─▶ cleaning ─▶ traces
    (pace: requests in flight; budget: tokens and money)

`request` sends one question over an OpenAI-compatible endpoint. `journal` keeps every answer that was paid
for. `pace` adapts the number of requests in flight. `budget` counts tokens and money. `cleaning` converts the
answers to training text. The stage is engine/stages/traces.py.
"""
