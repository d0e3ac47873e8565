"""What a person types and sees: commands and the console. A client of the store and of the supervisor, nothing more."""
