"""Asking a person: on the console, in a browser, or through a function. `port.Human` is what all of them are."""
