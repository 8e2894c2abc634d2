"""TLS libraries: which files hold one, what is new on this host, and the process that attaches to them."""
