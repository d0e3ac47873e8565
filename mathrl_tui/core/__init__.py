"""The console without its screen: what is shown, as plain values. Nothing in here imports Textual."""
