"""A campaign of injected faults against runs of a small experiment.

    draw ─▶ strikes of one run ─▶ one process per run (own mounts) ─▶ judge ─▶ results.jsonl ─▶ summary.md
                                   │ start, wait for progress, strike, do what a user would, …
                                   └ families: processes, commands, disk, contents, clock, strangers, copies

The product is a black box: the campaign drives its command line and its signals and reads its files. Every run is
compared with an undisturbed one of the same seed. `python -m tests.faults --help` lists the options.
"""
