"""requests: one Session, one request after the other."""

from __future__ import annotations

import sys

import requests
from client_lines import Request, plans, report


def call(session: requests.Session, one: Request) -> tuple[int, int]:
    body = iter([one.body]) if one.chunked and one.body is not None else one.body
    try:
        response = session.request(one.method, one.url, data=body, headers=one.headers)
    except requests.RequestException as error:
        print(error, file=sys.stderr)
        return 0, 0
    return response.status_code, len(response.content)


def main() -> None:
    with requests.Session() as session:
        session.trust_env = False
        for plan in plans():
            report([call(session, one) for one in plan])


if __name__ == "__main__":
    main()
