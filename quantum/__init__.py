"""Searchable quantum circuits: reserved for the circuit search; nothing is here yet."""
