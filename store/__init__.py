"""Store of all runs: journals, DuckDB, queries, statistics, export.

It imports only `profiles`.
"""
