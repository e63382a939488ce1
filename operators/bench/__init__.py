"""Benches over several capabilities at once."""
