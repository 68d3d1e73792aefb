"""Drawings: one result in, one plotly figure out."""
