"""Fast checks of a run before it is submitted: everything that can be known without loading it."""
