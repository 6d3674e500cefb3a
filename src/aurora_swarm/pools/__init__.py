"""The fleet as a user holds it."""
