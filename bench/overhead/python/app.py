"""The Python application of bench/overhead.py: the same in each variant."""

from flask import Flask, Response

app = Flask(__name__)


@app.get("/api/users")
def users() -> Response:
    """Answer with a small list."""
    return Response('[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]\n', mimetype="application/json")
