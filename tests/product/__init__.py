"""Tests of whole runs through the product's own commands."""
