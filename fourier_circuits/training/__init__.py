"""Training runs: configuration, loop, engines, folders."""
