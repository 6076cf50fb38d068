"""Corpora as streams of documents: demo packages, files, folders and hub datasets."""
