"""Set thousands of language-model agents to work on your own inference servers."""
