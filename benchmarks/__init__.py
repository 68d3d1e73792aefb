"""Ratios, not seconds: every line is measured beside its own baseline, in the same run, in turns."""
