"""Start a run or a server: check machine, model and inputs first."""
