"""The record of every run: journal, DuckDB, queries, statistics over rows, export. Imports profiles at the most."""
