"""The transformer: the only package that knows TransformerLens."""
