"""Searchable networks and the tasks they are trained on."""
