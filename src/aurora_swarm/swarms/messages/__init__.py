"""How agents talk: to one, to all who listen to a topic; in process, through Redis, HTTP, or a vector store."""
