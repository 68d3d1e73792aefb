"""Arithmetic on named arrays: what a network computes, measured. Knows torch only."""
