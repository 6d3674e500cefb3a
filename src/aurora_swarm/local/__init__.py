"""The embedded model: llama.cpp in a child process, its weights from a package."""
