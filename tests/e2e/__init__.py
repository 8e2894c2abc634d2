"""End-to-end tests: raw sockets on one side, the rows of `ringspan trace --show json` on the other."""
