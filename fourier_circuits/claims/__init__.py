"""The paper's claims: as printed (`printed`), and how each is measured on a run."""
