"""Statements as policy demands them: how they are changed, and how conditions on rows are read."""
