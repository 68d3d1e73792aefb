"""The Fourier basis of the residues mod p, and subspaces of functions on the (a, b) grid."""
