"""What both processes share: words, tables, text work and the command line."""
