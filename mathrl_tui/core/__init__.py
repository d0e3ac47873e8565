"""Presentation logic of the console as plain values; nothing here imports Textual."""
