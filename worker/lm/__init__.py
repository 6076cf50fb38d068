"""Language models: loading, hook points, tokens and capture of the residual stream."""
