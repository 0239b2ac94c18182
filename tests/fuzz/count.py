"""Adds to the account of executions: python tests/fuzz/count.py FILE TARGET EXECUTIONS"""

import json
import sys
from pathlib import Path

path, target, executions = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
account = json.loads(path.read_text()) if path.is_file() else {}
account[target] = account.get(target, 0) + executions
account["total"] = sum(number for name, number in account.items() if name != "total")
path.write_text(json.dumps(account, indent=1) + "\n")
