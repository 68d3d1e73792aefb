"""A `Reproduction` as a folder of pages that opens by double click: the roof, over figures and verbs."""
