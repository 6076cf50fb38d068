"""One pass over a corpus: what every feature of every SAE did on it."""
