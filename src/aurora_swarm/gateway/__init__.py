"""The fleet and its swarms as a service to others."""
