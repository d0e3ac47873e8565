"""The experiment as data: TOML profiles checked by pydantic models.

A profile contains every setting that affects a result: model, data, stage settings, arms and hardware.
`profiles.load.load` reads a profile by name or path, applies `--set` overrides and returns a frozen
`profiles.schema.Profile`. It raises `profiles.errors.ProfileError` with one line that names the field and what
to do.

The package itself imports nothing: pydantic takes 0.4 s to load, and `profiles.errors` is used by every command.
"""
