"""How a call reaches a model: one wire per file; foreign errors are translated here."""
