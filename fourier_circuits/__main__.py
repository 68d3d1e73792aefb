"""`python -m fourier_circuits` is the command line."""

from fourier_circuits.cli import main

if __name__ == "__main__":
    main()
