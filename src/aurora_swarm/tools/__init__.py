"""What agents can do."""

from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.files import LIST_DIR, READ_FILE
from aurora_swarm.tools.python_eval import PYTHON_EVAL
from aurora_swarm.tools.sql import SQL_QUERY
from aurora_swarm.tools.web.http_get import HTTP_GET
from aurora_swarm.tools.web.search import WEB_SEARCH

Tool.read_file = READ_FILE
Tool.list_dir = LIST_DIR
Tool.http_get = HTTP_GET
Tool.web_search = WEB_SEARCH
Tool.sql_query = SQL_QUERY
Tool.python_eval = PYTHON_EVAL
