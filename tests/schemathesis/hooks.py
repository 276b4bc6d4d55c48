"""What is changed in the requests that schemathesis makes up, so that a run harms nobody and ends.

The server is a real one: a node that it is told of is connected to, and what is deployed there is run. So every node that is accepted
is at a port of loopback where nothing listens, and none is this machine itself. Nothing else is kept from the server: what is invalid
is sent as it was made.
"""

import schemathesis

CLOSED_PORT = 1


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    body = case.body
    if "/nodes" in path and isinstance(body, dict):
        harmless(body)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        # For its coverage, schemathesis takes no sign but letters and digits for one of a header; where the schema asks for others, it
        # sends an empty header, and takes that for a valid one.
        for name in ("If-Match", "If-None-Match"):
            if case.headers.get(name) == "":
                del case.headers[name]
    if isinstance(case.query, dict):
        # Waiting is tested elsewhere, and a log that is followed and a list that is watched have no end.
        if path.endswith(("/start", "/stop")) and case.query.get("wait") in (None, True, "true"):
            if is_number(case.query.get("timeout", 30)):
                case.query["timeout"] = 0.01
        for endless in ("follow", "watch"):
            if case.query.get(endless) in (True, "true", 1, "1"):
                case.query[endless] = "false"


def harmless(node):
    if isinstance(node.get("ip-address"), str) and node["ip-address"]:
        node["ip-address"] = "127.0.0.1"
        node.setdefault("port", None)
    if "port" in node and (node["port"] is None or isinstance(node["port"], int) and 0 < node["port"] < 65536):
        node["port"] = CLOSED_PORT
    if node.get("transport") == "local":
        node["transport"] = "ssh"


def is_number(value):
    try:
        return 0 <= float(value) <= 600
    except (TypeError, ValueError):
        return False
