"""Real HTTP servers and clients for the end-to-end tests; see README.md."""
