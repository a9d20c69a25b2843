"""A small searchable classifier of handwritten digits: real data, seconds to search."""
