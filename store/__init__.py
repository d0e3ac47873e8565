"""Store of all runs: journal, DuckDB, queries, statistics, export. It imports only `profiles`."""
