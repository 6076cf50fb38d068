"""Preference and conversation data: from rows of a source to tokens of a batch."""
