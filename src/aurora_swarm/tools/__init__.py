"""What agents can do."""

from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.files import LIST_DIR, READ_FILE

Tool.read_file = READ_FILE
Tool.list_dir = LIST_DIR
